import contextlib
import json
import resource
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory, metrics_sha256
from ssl_pkg.run.metrics_log import MetricsLog


def line(step: int) -> dict[str, object]:
    return {"step": step, "epoch": step / 10, "phase": "train", "seconds": step * 1.5, "loss": 1 / step}


def test_each_step_is_logged_once_after_a_resume_from_an_older_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(RunDirectory(tmp_path), 0, metrics_sha256([]))
    for step in (10, 20, 30):
        log.write(line(step))
    log.close()
    log = MetricsLog(RunDirectory(tmp_path), 20, metrics_sha256([line(10), line(20)]))  # the checkpoint was of step 20
    for step in (30, 40):
        log.write(line(step))
    log.close()
    steps = [json.loads(text)["step"] for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40]

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [10, 20, 30, 40]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line(10)) + "\n" + json.dumps(line(20))[:17])
    log = MetricsLog(RunDirectory(tmp_path), 20, metrics_sha256([line(10)]))
    log.write(line(20))
    log.close()
    assert [entry["step"] for entry in RunDirectory(tmp_path).metrics()] == [10, 20]


@pytest.mark.parametrize("left", [[], [line(10)], [line(10), line(20) | {"loss": 0.5}], [line(20), line(10)]])
def test_lost_or_changed_lines_are_reported_and_nothing_is_written(
    tmp_path: Path, left: list[dict[str, object]]
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in left))
    before = file.read_bytes()
    with pytest.raises(BadInput, match="was changed after this run wrote it, at or before step 20"):
        MetricsLog(RunDirectory(tmp_path), 20, metrics_sha256([line(10), line(20)]))
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_digest_ignores_the_clock_and_nothing_else() -> None:
    first, second = line(10), line(10) | {"seconds": 99.0}
    assert metrics_sha256([first]) == metrics_sha256([second])
    for change in ({"loss": 0.2}, {"step": 11}, {"phase": "final"}, {"extra": 1}):
        assert metrics_sha256([first]) != metrics_sha256([first | change])


def test_a_line_is_in_tensorboards_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = MetricsLog(RunDirectory(tmp_path), 0, metrics_sha256([]))
    for step in (10, 20):
        log.write(line(step))
        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        assert events.Tags()["scalars"] == ["loss"]
        assert events.Scalars("loss")[-1].step == step
        assert events.Scalars("loss")[-1].value == pytest.approx(1 / step)
    log.close()


def test_a_full_disk_raises_an_error_without_output_from_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MetricsLog(RunDirectory(tmp_path), 0, metrics_sha256([]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            log.write({"step": 10, "epoch": 0.1, "phase": "train", "loss": 0.5, "a" * 10: 1.0, "b": 2.0})
        with contextlib.suppress(OSError):
            log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry["step"] for entry in RunDirectory(tmp_path).metrics()] == [10]  # there was space for this line
    assert capsys.readouterr().err == ""
