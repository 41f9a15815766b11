"""A study in a folder whose name has all characters that a shell, a batch script, Hydra or sbatch may interpret."""

import json
from pathlib import Path

import pytest
from studies import OnCluster

from ssl_pkg.errors import BadInput


@pytest.mark.usefixtures("bed")
def test_the_folder_can_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / """José's ${seed} "Łódź", (2) [x] {y: 1} #a=b,c $HOME ` 画像 ~ *; !"""
    root.mkdir()
    small = OnCluster(root, sweep=("method.model.temperature=0.1,0.5",))
    small.jobs = small.jobs[:3]
    assert len(small.submit().submitted) == 3
    small.until_complete()
    assert small.submit().submitted == []
    pretrain, probe = (root / "small" / f"{stage}-simclr-s0-temperature=0.1" for stage in ("pretrain", "probe"))
    assert f"source={pretrain}" in json.loads((probe / "child.json").read_text())["arguments"]


@pytest.mark.usefixtures("bed")
def test_a_backslash_in_the_path_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "back\\slash"
    with pytest.raises(BadInput, match=r"SLURM replaces the \\ in .*: give another folder with --runs"):
        OnCluster(root).submit()
    assert not root.exists()
