from pathlib import Path

import pytest

from ssl_pkg.errors import BadInput
from ssl_pkg.layout import refuse_no_data_set


@pytest.mark.parametrize("name", ["set", "stl10_binary"])
def test_the_advice_about_a_folder_that_has_the_files_themselves_leads_to_a_data_set(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mydata" / name
    folder.mkdir(parents=True)
    (folder / "train_X.bin").touch()
    rename = "" if name == "stl10_binary" else "rename it to stl10_binary, then "
    advice = f"{folder} has the files themselves: {rename}give the folder that holds it, {folder.parent}"
    with pytest.raises(BadInput) as error:
        refuse_no_data_set(folder)
    assert str(error.value) == advice
    folder.rename(folder.with_name("stl10_binary"))
    refuse_no_data_set(folder.parent)
