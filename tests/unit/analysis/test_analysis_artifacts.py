import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_contents import model_of
from fake_study import DATE, FakeStudy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis import report
from analysis.artifacts import read_arrays
from analysis.figures import classes, curves, style, tsne, width
from analysis.reading import read_study
from analysis.study import Study

LABELS = np.arange(6) % 3
SAVERS: dict[str, Callable[..., None]] = {"stored": np.savez, "compressed": np.savez_compressed}


def _small(saver: str) -> bytes:
    buffer = io.BytesIO()
    SAVERS[saver](buffer, logits=np.arange(18.0).reshape(6, 3), labels=LABELS)
    return buffer.getvalue()


SMALL = {saver: _small(saver) for saver in SAVERS}


@settings(
    derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    saver=st.sampled_from(sorted(SMALL)),
    flips=st.lists(st.tuples(st.integers(0, min(map(len, SMALL.values())) - 1), st.integers(1, 255)), min_size=1),
)
def test_a_damaged_file_counts_as_missing(tmp_path: Path, saver: str, flips: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL[saver])
    for place, mask in flips:
        content[place] ^= mask
    path = tmp_path / "predictions.npz"
    path.write_bytes(content)
    found = read_arrays(path)
    if found is not None:  # the byte does not belong to an array, for example it is part of a date
        assert set(found) == {"logits", "labels"}
        assert np.array_equal(found["logits"], np.arange(18.0).reshape(6, 3))
        assert np.array_equal(found["labels"], LABELS)


@pytest.mark.parametrize("saver", sorted(SMALL))
def test_a_change_of_any_single_byte_is_harmless_or_found(tmp_path: Path, saver: str) -> None:
    path = tmp_path / "predictions.npz"
    for place in range(len(SMALL[saver])):
        content = bytearray(SMALL[saver])
        content[place] ^= 0xFF
        path.write_bytes(content)
        found = read_arrays(path)
        assert found is None or np.array_equal(found["logits"], np.arange(18.0).reshape(6, 3)), place


def test_a_file_that_is_not_an_npz_archive_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    assert read_arrays(path) is None
    with path.open("wb") as file:
        np.save(file, LABELS)
    assert read_arrays(path) is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", "no array")
    assert read_arrays(path) is None


POINTS = np.zeros((6, 2))
MAPS = {"train": POINTS, "train_labels": LABELS, "test": POINTS, "test_labels": LABELS}
FRAMES = {"frames": np.zeros((2, 6, 2)), "frame_steps": np.arange(2), "frame_labels": LABELS}
LINE = {"alphas": np.zeros(5), "loss": np.zeros(5), "accuracy": np.zeros(5)}
PLANE = {"grid": np.arange(3.0), "plane": np.zeros((3, 3))}
LOGITS = np.zeros((100, 10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "arrays"),
    [
        ("tsne.npz", MAPS | {"train": np.zeros((6, 3))}),
        ("tsne.npz", MAPS | {"test": np.zeros(6)}),
        ("tsne.npz", MAPS | {"test": np.zeros((5, 2))}),
        ("tsne.npz", MAPS | {"test": np.full((6, 2), np.nan)}),
        ("tsne.npz", MAPS | {"train": np.zeros((0, 2)), "train_labels": LABELS[:0]}),
        ("tsne.npz", MAPS | {"test_labels": LABELS + 0.5}),
        ("tsne.npz", MAPS | {"test_labels": LABELS - 1}),
        ("tsne.npz", MAPS | {"test_labels": np.array(["a"] * 6)}),
        ("tsne.npz", MAPS | FRAMES | {"frames": np.zeros((2, 6))}),
        ("tsne.npz", MAPS | FRAMES | {"frame_steps": np.arange(1)}),
        ("tsne.npz", MAPS | FRAMES | {"frame_labels": LABELS[:5]}),
        ("landscape.npz", LINE | PLANE | {"loss": np.zeros(4)}),
        ("landscape.npz", LINE | PLANE | {"alphas": np.zeros((5, 1))}),
        ("landscape.npz", LINE | PLANE | {"accuracy": np.array(0.5)}),
        ("landscape.npz", LINE | PLANE | {"plane": np.zeros((3, 2))}),
        ("landscape.npz", LINE | PLANE | {"plane": np.zeros(3)}),
        ("landscape.npz", LINE | PLANE | {"grid": np.array([1j, 2j, 3j])}),
        ("predictions.npz", {"logits": LOGITS[0], "labels": LABELS}),
        ("predictions.npz", {"logits": LOGITS[:, :0], "labels": np.arange(100) % 10}),
        ("predictions.npz", {"logits": LOGITS, "labels": np.arange(99) % 10}),
        ("predictions.npz", {"logits": LOGITS, "labels": np.arange(100) % 11}),
        ("predictions.npz", {"logits": LOGITS, "labels": np.arange(100) % 10 - 11}),
        ("predictions.npz", {"logits": LOGITS[:, :3], "labels": np.arange(100) % 3}),
        ("predictions.npz", {"logits": LOGITS * np.nan, "labels": np.arange(100) % 10}),
    ],
)
def test_arrays_of_wrong_shapes_count_as_missing(fake: FakeStudy, file: str, arrays: dict[str, Any]) -> None:
    fake.finetune("simclr")
    stages = {"tsne.npz": fake.embed, "landscape.npz": fake.width, "predictions.npz": fake.ood}
    for model in ("simclr-finetune", "byol-finetune"):
        run = stages[file](model)
        if model == "simclr-finetune":
            np.savez(run / file, **arrays)
    study = read_study(fake.path)
    (damaged,) = study.complete(run.name.partition("-")[0], model_of("simclr-finetune"))
    if file == "predictions.npz":
        assert study.predictions(model_of("simclr-finetune"), "ood") == {}
    else:
        assert damaged.arrays(file) is None
    with style.styled():
        assert all(_drawn(draw(study)) for draw in FIGURES[file])
        (run / file).unlink()
        assert not any(_drawn(draw(study)) for draw in FIGURES[file])


FIGURES: dict[str, list[Callable[[Study], Figure | None]]] = {
    "tsne.npz": [tsne.maps, tsne.frames],
    "landscape.npz": [width.slices, width.planes],
    "predictions.npz": [],
}


def _drawn(figure: Figure | None) -> bool:
    if figure is not None:
        figure.draw_without_rendering()
    return figure is not None


def test_a_plane_of_one_point_is_not_drawn(fake: FakeStudy) -> None:
    run = fake.width("simclr-probe")
    np.savez(run / "landscape.npz", **LINE, grid=np.zeros(1), plane=np.zeros((1, 1)))
    assert width.planes(read_study(fake.path)) is None


def test_models_of_other_classes_do_not_share_a_confusion(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        fake.pretrain(method)
        fake.probe(method)
        fake.ood(f"{method}-probe")
    run = fake.path / "ood-byol-probe-s0"
    np.savez(run / "predictions.npz", logits=np.zeros((100, 12)), labels=np.arange(100) % 12)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"classes": [str(index) for index in range(12)]}))
    study = read_study(fake.path)
    assert study.predictions(model_of("byol-probe"), "ood")
    figure = classes.confusion(study, "ood")
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["SimCLR probe"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    ["abc", None, [1.0], {"a": 1}, True, float("nan"), float("inf"), 10**400],
    ids=["text", "null", "list", "object", "true", "nan", "infinite", "huge"],
)
def test_a_metric_that_is_not_a_number_is_ignored(fake: FakeStudy, value: Any) -> None:
    run = fake.pretrain("simclr")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[3] |= {"loss": value, "epoch": value}
    lines[5] |= {"step": value, "phase": value}
    for line in lines:
        line["lr"] = value
    _write(run, lines)
    final = fake.finetune("simclr")
    _write(final, [json.loads(line) | {"epoch": value} for line in (final / "metrics.jsonl").read_text().splitlines()])
    study = read_study(fake.path)
    (found,) = study.of("pretrain")
    assert found.metrics["step"].tolist() == [line["step"] for line in lines if line["step"] is not value]
    assert found.metrics["loss"].isna().tolist() == [False] * 3 + [True] + [False] * 7
    assert "lr" not in found.metrics
    with style.styled():
        assert _drawn(curves.pretraining(study))
        assert _drawn(curves.finetuning(study))


def test_a_penalty_that_is_not_a_number_is_ignored(fake: FakeStudy) -> None:
    run = fake.probe("simclr")
    result = json.loads((run / "result.json").read_text())
    result["tried"][2]["accuracy"], result["tried"][4]["l2"] = "abc", [1]
    (run / "result.json").write_text(json.dumps(result))
    with style.styled():
        assert _drawn(curves.probing(read_study(fake.path)))


@pytest.mark.slow
def test_a_report_is_built_without_damaged_files(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    for file, run in (
        ("predictions.npz", fake.path / "finetune-random-s0"),
        ("predictions.npz", fake.ood("supervised")),
        ("tsne.npz", fake.embed("supervised")),
        ("landscape.npz", fake.width("supervised")),
    ):
        with np.load(run / file) as arrays:
            np.savez_compressed(run / file, **dict(arrays))
        content = bytearray((run / file).read_bytes())
        with zipfile.ZipFile(run / file) as archive:
            start = archive.infolist()[0].header_offset
        name_length, more = content[start + 26], content[start + 28]
        content[start + 30 + name_length + more] = 0xFF  # not a valid deflate block: raises zlib.error
        (run / file).write_bytes(content)
    out = tmp_path / "out"
    assert report.build(read_study(fake.path), out, DATE).is_file()
    drawn = {path.stem for path in (out / "figures").glob("*.pdf")}
    assert {"accuracy", "curves-finetuning"} <= drawn
    assert drawn.isdisjoint({"tsne", "landscape-line", "landscape-plane", "reliability", "confusion-ood"})


def _write(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
