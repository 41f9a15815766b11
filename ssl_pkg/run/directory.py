"""The run directory: the only interface between `ssl_pkg`, `jobs` and `analysis`. Imports no torch.

    runs/STUDY/JOB/
      config.yaml        the resolved configuration
      provenance.json    git commit, package versions, data manifest, device, world size; of a run that was interrupted
                         also, as `starts`, each start that differed in these, the last one last
      metrics.jsonl      one object a line: step, epoch, phase, seconds, then name -> value; each step once
      tensorboard/       the same metrics for TensorBoard
      checkpoints/       the state that an interrupted run resumes from
      status             phase, step, of how many, rate, heartbeat (JSON, rewritten atomically)
      result.json        written last and atomically: its presence IS completion

beside them `jobs` keeps runs/STUDY/logs/JOB.log: what the run's process printed, a line `>>> …` above each start and
`<<< exit status N after S s` below its end; and the artifacts of the stage (C classes, arrays in sample order):

    pretrain   encoder.safetensors   ResNet-18 without its last layer; torchvision's resnet18 loads it
    final model (supervised pretrain, probe, finetune):
               model.safetensors     torchvision's resnet18(num_classes=C)
               predictions.npz       logits (n, C) float32, labels (n,) int64, on the test split
    finetune   embeddings.npz        frames (K, n, 512), steps (K,), labels (n,): test images while it trains
    ood        predictions.npz       logits (n, C) float32, labels (n,) int64 (class indices of the model's classes)
    embed      embeddings.npz        train (n, 512), train_labels, test (m, 512), test_labels
               tsne.npz              train (a, 2), train_labels (a,), test (b, 2), test_labels (b,); of a fine-tuned
                                     model also frames (K, n, 2), frame_steps (K,), frame_labels (n,); without what
                                     can't be mapped (a row of `result.json` says why)
    pretrain,
    ood        contact_sheet.png     some images of each class and split, as read; none with data.contact_sheet=false
    width      landscape.npz         alphas (A,), loss (A,), accuracy (A,), and the plane: grid (G,), plane (G, G)

Embeddings are float16, or float32 where a value is beyond float16's range. The metadata of safetensors files is
`format` ("pt") and `ssl-study`, a JSON object: method, data, classes, weights_sha256, and what an image must go through
(resolution, resize, channels, range, mean, std).

`result.json` holds stage, method, adaptation (null, `probe` or `finetune`: how the method's encoder became a
classifier), model (both in one word: `random-probe`, `supervised`, `simclr-probe`, `simclr-finetune`, ...), seed,
data (the name that `provenance.json` gives to what was seen), source_data (the images that the
source saw, only where they are others), resolution, classes, seconds, weights_sha256,
metrics_sha256, and `rows`: the numbers, each {evaluation, metric, value, low, high, n}. Accuracies are fractions,
low and high a 95 % interval or null, n the number of samples behind the value. A number that could not be computed (a
model that diverged, a class without images) has the value null, and `reason` says why in words.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CLOCK_FIELDS: Final = ("seconds",)  # of a metric line: how long it took, not what came out


def write_atomic(path: Path, *parts: bytes | memoryview, verify: Callable[[], None] = lambda: None) -> None:
    """Replaces `path` by `parts` in a row: a reader sees the old bytes or the new ones and never a part of them.

    verify: called when all but the replacing is done; what it raises prevents that.
    Raises OSError (disk full, no permission) and leaves the old file and no temporary one.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            out.writelines(parts)
            out.flush()
            os.fsync(out.fileno())
        with suppress(OSError):  # FAT, SMB and some FUSE file systems let nobody set a mode
            Path(temporary).chmod(0o666 & ~_umask())
        verify()
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    with suppress(OSError):  # EINVAL or EIO where folders can't be synced; the file is there, and its content is synced
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Writes the folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's umask. os.umask tells it only by changing it, for all threads that write at the moment."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def write_json(path: Path, content: dict[str, Any], verify: Callable[[], None] = lambda: None) -> None:
    """Writes `content` as indented JSON, as `write_atomic` does. Raises ValueError if a number is not finite."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), verify=verify)


def metrics_sha256(lines: list[dict[str, Any]]) -> str:
    """Digest of metric lines without their clock times: equal runs have equal digests."""
    digest = hashlib.sha256()
    for line in lines:
        kept = {name: value for name, value in line.items() if name not in CLOCK_FIELDS}
        digest.update(json.dumps(kept, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def model_name(method: str, adaptation: str | None) -> str:
    """The model's name in result.json and in tables: `simclr-probe`, or `supervised` without an adaptation."""
    return f"{method}-{adaptation}" if adaptation else method


@dataclass(frozen=True)
class RunDirectory:
    """One `runs/STUDY/JOB/`. Reading methods return None or nothing where a file is missing or torn."""

    path: Path

    @property
    def name(self) -> str:
        """The job's name, e.g. `pretrain-simclr-s0`."""
        return self.path.name

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return self.result() is not None

    def result(self) -> dict[str, Any] | None:
        """Content of `result.json`."""
        return _read_json(self.path / "result.json")

    def provenance(self) -> dict[str, Any] | None:
        """Content of `provenance.json`."""
        return _read_json(self.path / "provenance.json")

    def status(self) -> dict[str, Any] | None:
        """Content of `status`: phase, step, steps, rate (steps/s), heartbeat (seconds since the epoch)."""
        return _read_json(self.path / "status")

    def config(self) -> dict[str, Any] | None:
        """Content of `config.yaml`."""
        try:
            content = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except Exception:  # PyYAML raises almost anything on a damaged file
            return None
        return content if isinstance(content, dict) else None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a torn last line (a crash while writing) is left out."""
        try:
            text = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = []
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                lines.append(entry)
        return lines

    def write_status(self, *, phase: str, step: int, steps: int, rate: float | None) -> None:
        """Rewrites `status`; `rate` in steps per second."""
        now = {"phase": phase, "step": step, "steps": steps, "rate": rate, "heartbeat": time.time()}
        write_atomic(self.path / "status", (json.dumps(now) + "\n").encode())


def runs_of(study: Path) -> Iterator[RunDirectory]:
    """The run directories below `runs/STUDY/`, by name."""
    if study.is_dir():
        for folder in sorted(study.iterdir()):
            if (folder / "config.yaml").is_file():
                yield RunDirectory(folder)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
