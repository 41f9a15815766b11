"""The run directory, in which a stage leaves its results for other stages, `jobs` and `analysis`. Imports no torch.

    runs/STUDY/JOB/
      config.yaml        the resolved configuration, digests of the inputs, and `run_format`: the version of this layout
      provenance.json    git commit, package versions, data manifest, device, world size; in `starts` the same for each
                         start of the run that differs in these, the last one last; `resumes`: how often the run
                         was interrupted and resumed from a checkpoint
      metrics.jsonl      one JSON object a line: step, epoch, phase, seconds, then metrics by name; each step once
      tensorboard/       the same metrics for TensorBoard
      checkpoints/       the state that an interrupted run resumes from
      status             phase, step, steps, rate, part, parts, earlier_seconds, heartbeat (JSON, rewritten atomically);
                         part of parts counts the pieces of the stage's work from 1, null if it has none;
                         earlier_seconds is the time of earlier starts up to the checkpoint
      lock               exists while a process works in the directory, and names the process
      result.json        written last and atomically: a run is complete if and only if this file exists

`jobs` writes the run's output to runs/STUDY/logs/JOB.log (see `run_log.py`). The stages write these artifacts, with
arrays in sample order; `ssl_pkg/catalogue.py` has the arrays of those that are in capitals here, and their axes:

    pretrain     encoder.safetensors   ResNet-18 without its last layer; torchvision's resnet18 loads it
    probe, finetune:
                 model.safetensors     torchvision's resnet18(num_classes=C) for C classes
                 predictions.npz       PREDICTIONS on the test split; of a probe also the hits of the probes of folds
    finetune     embeddings.npz        frames (K, n, 512), steps (K,), labels (n,): test images while it trains; not
                                       from random weights
                 snapshots/            these frames, one file each, until the run is complete
    few_labels   few_labels.npz        FEW_LABELS: hits on the test split, and on the out-of-distribution set
    ood          predictions.npz       PREDICTIONS; the labels are class indices of the model's classes
    corruptions  corruptions.npz       CORRUPTIONS, in the order of `corruptions` and `severities` in `result.json`
    embed        embeddings.npz        train (n, 512), train_labels, test (m, 512), test_labels
                 tsne.npz              TSNE, without arrays that can't be computed; a row of `result.json` says why
    width        landscape.npz         LANDSCAPE: the loss on a line and on a plane through the optimum
    pretrain, ood:
                 contact_sheet.png     some images of each class and split, as read; none with data.contact_sheet=false

Embeddings are float16, or float32 if a value is outside float16's range. The metadata of safetensors files is
`format` ("pt") and `ssl-study`, a JSON object of model, stage, method, adaptation, seed, data, classes, commit,
source_data (the data set of the encoder, only if it differs), weights_sha256, the licence if it is known (license,
license_name, license_link) and the preprocessing of images (photograph: orientation, fit, side and interpolation, by
which a photograph becomes an image of the data set; resolution, resize, channels, range, mean, std). MODEL_CARD.md
beside the weights says the same to people.

`result.json` has stage, method, adaptation (null, `probe` or `finetune`: how the method's encoder became a classifier),
model (both in one word: `random-probe`, `supervised`, `simclr-probe`, `simclr-finetune`, ...), seed, data (the name of
the data set in `provenance.json`), source_data (the images of the source, only if they differ), resolution, classes,
seconds, weights_sha256, metrics_sha256, headline (label and value of the number that a status shows, or null), and
`rows`, the numbers: `ssl_pkg/rows.py` has their keys. Some stages add:

    pretrain, finetune                 training: `ssl_pkg/config/training_length.py`
    probe, finetune                    tried: the candidates, each with its accuracy on the holdout split
    finetune                           chosen: the phase of the candidate that was trained on all of train
    probe, finetune, few_labels, width
                                       notes: sentences about what was done differently from the settings, for people
    corruptions                        corruptions, severities: the names and numbers of the conditions
    ood                                substituted: the classes that stand for one which the model does not have
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

RESULT: Final = "result.json"
CONTACT_SHEET: Final = "contact_sheet.png"
CLOCK_FIELDS: Final = ("seconds",)  # fields of a metric line that measure time, and so differ between equal runs


def write_atomic(
    path: Path,
    *parts: bytes | memoryview,
    modified: int | None = None,
    verify: Callable[[], None] = lambda: None,
) -> None:
    """Replaces the file by the concatenated `parts`. A reader sees the old content or the new content, never a mixture.

    modified: the file's modification time, in nanoseconds since 1970; without it, now.
    verify: called just before the replacement, which its exception prevents.
    Raises OSError if the disk is full or a permission is missing. Then the old file remains, and no temporary file.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            out.writelines(parts)
            out.flush()
            os.fsync(out.fileno())
        with suppress(OSError):  # FAT, SMB and some FUSE file systems refuse chmod
            Path(temporary).chmod(0o666 & ~_umask())
        if modified is not None:
            _set_modified(Path(temporary), modified)
        verify()
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems can't sync a folder; the file's content is synced already
        _sync_folder(path.parent)


def _set_modified(file: Path, modified: int) -> None:
    """Sets the modification time, or one at most two seconds later where the file system rounds times down.

    FAT rounds to two seconds, other file systems to one or to less. Where times can't be set, the file keeps its own.
    """
    with suppress(OSError):
        os.utime(file, ns=(modified, modified))
        if file.stat().st_mtime_ns < modified:
            later = modified + 2 * 10**9
            os.utime(file, ns=(later, later))


def _sync_folder(folder: Path) -> None:
    """Flushes the folder's entries to the disk, so that a renamed file survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The process's umask, from /proc, because os.umask changes the umask of all threads in order to return it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def write_json(path: Path, content: dict[str, Any], verify: Callable[[], None] = lambda: None) -> None:
    """Writes `content` as indented JSON with write_atomic. Raises ValueError if a number is not finite."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), verify=verify)


def metrics_sha256(lines: list[dict[str, Any]]) -> str:
    """SHA-256 of metric lines without CLOCK_FIELDS, which is equal for equal runs."""
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
    """A directory runs/STUDY/JOB/. Its methods return None or an empty list if a file is missing or damaged."""

    path: Path

    @property
    def name(self) -> str:
        """The job's name, e.g. `pretrain-simclr-s0`."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, which may not exist."""
        return self.path / "checkpoints"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, intact or not."""
        return any(self.checkpoints.glob("*.ckpt"))

    @property
    def complete(self) -> bool:
        """Whether the run is complete."""
        return self.result() is not None

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`."""
        return read_json(self.path / RESULT)

    def provenance(self) -> dict[str, Any] | None:
        """The content of `provenance.json`."""
        return read_json(self.path / "provenance.json")

    def status(self) -> dict[str, Any] | None:
        """The content of `status`, as `write_status` writes it, and heartbeat, in seconds since 1970."""
        return read_json(self.path / "status")

    def config(self) -> dict[str, Any] | None:
        """The content of `config.yaml`."""
        try:
            content = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except Exception:  # PyYAML raises almost anything on a damaged file
            return None
        return content if isinstance(content, dict) else None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`. Damaged lines are left out, such as a last line that a crash cut off."""
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

    def write_status(
        self,
        *,
        phase: str,
        step: int,
        steps: int,
        rate: float | None,
        part: int | None = None,
        parts: int | None = None,
        earlier_seconds: float = 0.0,
    ) -> None:
        """Rewrites `status`. rate: in steps per second. earlier_seconds: the time of earlier starts."""
        now = {"phase": phase, "step": step, "steps": steps, "rate": rate, "part": part, "parts": parts}
        more = {"earlier_seconds": earlier_seconds, "heartbeat": time.time()}
        write_atomic(self.path / "status", (json.dumps(now | more) + "\n").encode())


def runs_of(study: Path) -> Iterator[RunDirectory]:
    """The run directories in runs/STUDY/, sorted by name."""
    if study.is_dir():
        for folder in sorted(study.iterdir()):
            if (folder / "config.yaml").is_file():
                yield RunDirectory(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
