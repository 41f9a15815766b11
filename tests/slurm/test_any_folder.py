"""A study in a folder with every character that a shell, a batch script, Hydra or sbatch could take for its own."""

from pathlib import Path

import pytest
from studies import OnCluster


@pytest.mark.usefixtures("bed")
def test_the_folder_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / """José's ${seed} "Łódź", (2) [x] {y: 1} #a=b,c $HOME ` \\ 画像 ~ *; !"""
    root.mkdir()
    small = OnCluster(root, sweep=("method.model.temperature=0.1,0.5",))
    assert len(small.send().sent) == len(small.jobs)
    small.until_complete()
    assert small.send().sent == []
    assert f"source={root}/small/pretrain-simclr-s0-temperature=0.1" in small.log("probe-simclr-s0-temperature=0.1")
