import re
import subprocess
from pathlib import Path

import pytest

from ssl_pkg.data.names import read_names
from ssl_pkg.errors import BadInput


def test_the_command_of_the_message_saves_the_names_as_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "it's mine.txt"
    file.write_bytes("Löwe\ncat\n".encode("latin1"))
    with pytest.raises(BadInput, match="is not UTF-8: save it as UTF-8, one class name per line") as caught:
        read_names(file)
    found = re.search("`(.*)`", str(caught.value))
    assert found
    subprocess.run(found[1], shell=True, check=True)
    assert read_names(file) == ("Löwe", "cat")
