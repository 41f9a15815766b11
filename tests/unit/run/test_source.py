import json
from pathlib import Path

import pytest

from ssl_pkg.config.compose import load_config, refuse_unread
from ssl_pkg.config.overrides import key_of
from ssl_pkg.config.schema import Config
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.source import inherit, other_source_data, source_result

RESULT = {"model": "simclr", "method": "simclr", "adaptation": None, "seed": 3, "resolution": 48, "classes": ["a"]}


def inherited(folder: Path, *words: str) -> Config:
    line = ["stage=probe", f"source={folder / 'source'}", f"run_dir={folder / 'run'}", *words]
    return inherit(load_config(line), set(map(key_of, line)), RunDirectory(folder / "run"))


def write(folder: Path, **content: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps(content))


@pytest.mark.parametrize("words", [(), ("seed=3",), ("budget=full",), ("+budget.resolution=48",), ("study=stl10",)])
def test_seed_and_resolution_are_inherited_from_the_source(tmp_path: Path, words: tuple[str, ...]) -> None:
    write(tmp_path / "source", **RESULT)
    words = tuple(word.replace("+", "++") for word in words)
    config = inherited(tmp_path, *words, "data.root=synthetic")
    assert (config.seed, config.budget.resolution) == (3, 48)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seed=0", "seed=0 contradicts source=.*, whose seed is 3: leave seed out"),
        ("++seed=7", "seed=7 contradicts source=.*, whose seed is 3: leave seed out"),
        ("budget.resolution=64", "budget.resolution=64 contradicts source=.*, whose resolution is 48: leave"),
    ],
)
def test_a_field_that_contradicts_the_source_is_refused(tmp_path: Path, word: str, sentence: str) -> None:
    write(tmp_path / "source", **RESULT)
    with pytest.raises(BadInput, match=sentence):
        inherited(tmp_path, word)


def test_a_complete_run_replaces_its_missing_source(tmp_path: Path) -> None:
    write(tmp_path / "run", **RESULT)
    assert inherited(tmp_path).seed == 3
    with pytest.raises(BadInput, match="seed=7 contradicts"):
        inherited(tmp_path, "seed=7")


def test_the_random_source_has_the_given_seed(tmp_path: Path) -> None:
    assert inherited(tmp_path, "source=random", "seed=7", "budget.resolution=64").seed == 7


@pytest.mark.parametrize("damage", [{"seed": -1}, {"resolution": 10**9}, {"seed": "3"}, {"resolution": None}])
def test_a_damaged_source_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    write(tmp_path / "source", **RESULT | damage)
    with pytest.raises(BadInput, match=r"result.json of source=.* is damaged"):
        inherited(tmp_path)


def test_a_source_without_seed_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "source", **{key: value for key, value in RESULT.items() if key != "seed"})
    with pytest.raises(BadInput, match="lacks one of model, method, adaptation, seed"):
        source_result(inherited(tmp_path))


def test_other_images_than_those_of_the_source_are_named(tmp_path: Path) -> None:
    write(tmp_path / "source", **RESULT)
    file = tmp_path / "data" / "stl10_binary" / "test_X.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    for size, other in ((5, None), (6, "/elsewhere")):
        files = {"stl10_binary/test_X.bin": {"bytes": size, "md5": None}}
        seen = {"data": {"name": "stand-in", "root": "/elsewhere", "files": files}}
        (tmp_path / "source" / "provenance.json").write_text(json.dumps(seen))
        assert other_source_data(inherited(tmp_path, f"data.root={tmp_path / 'data'}")) == other


@pytest.mark.parametrize(
    ("stage", "word", "section"),
    [
        ("probe", "finetune.epochs=3", "finetune"),
        ("ood", "++width.images=3", "width"),
        ("embed", "method.epochs=3", "pretrain"),
        ("finetune", "width.images=1", "width"),
        ("finetune", "probe.l2_count=1", None),
        ("embed", "pretrain.knn_neighbours=5", None),
        ("probe", "probe.l2_count=1", None),
    ],
)
def test_a_field_that_the_stage_does_not_read_is_refused(stage: str, word: str, section: str | None) -> None:
    method = ["method=simclr"] if word.startswith("method.") else []
    line = [f"stage={stage}", "source=a", "run_dir=b", *method, word]
    if section is None:
        refuse_unread(load_config(line), line)
    else:
        with pytest.raises(BadInput, match=f"stage={stage} does not read .*, a field of stage={section}: leave it out"):
            refuse_unread(load_config(line), line)
