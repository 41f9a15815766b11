"""Predicts the classes of images with a final model: `python -m ssl_pkg.predict RUN FOLDER` (`ssl-study predict`).

FOLDER is a packed folder, whose test split is predicted, or any folder of images. The label of an image is known if the
image is in a folder with the name of a class.
"""

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train")

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import nn
from torchvision.models import resnet18

from ssl_pkg import layout
from ssl_pkg.data.image_files import Unusable, files_below, printable, read_images
from ssl_pkg.data.images import UNLABELED, Indices, Split
from ssl_pkg.data.pack import FILES
from ssl_pkg.data.stl10 import SIDE, read_classes, read_labelled
from ssl_pkg.errors import BadInput, exit_status
from ssl_pkg.evaluation.accuracy import accuracy
from ssl_pkg.evaluation.forward import BATCH, Array, predict
from ssl_pkg.hardware.device import choose_device
from ssl_pkg.hardware.machine import cores
from ssl_pkg.models.encoder import to_device
from ssl_pkg.overrides import expand_path
from ssl_pkg.rows import Row
from ssl_pkg.run.directory import RunDirectory, write_atomic
from ssl_pkg.run.weights import load_into, load_weights
from ssl_pkg.streams import prepare_streams

OUT: Final = "predictions.csv"


@dataclass(frozen=True)
class FinalModel:
    """A classifier in eval mode, the names of its classes, and the side of its images in pixels."""

    network: nn.Module
    classes: tuple[str, ...]
    resolution: int


@dataclass(frozen=True)
class Predictions:
    """The logits (n, C) of n images with their names and labels, class names or empty, and the files without logits.

    indices: of the labels in the model's classes (n,), UNLABELED for a label that is unknown to the model.
    """

    names: list[str]
    labels: list[str]
    indices: Indices
    logits: Array
    unusable: dict[str, str]  # the reason, by name

    def accuracy(self) -> Row | None:
        """The share of right predictions with its 95 % interval; None without images of the model's classes."""
        known = self.indices != UNLABELED
        return accuracy("predict", "accuracy", self.logits[known], self.indices[known]) if known.any() else None


def load_final_model(run: Path) -> FinalModel:
    """The final model of a complete run. Raises BadInput if there is none."""
    result, file = RunDirectory(run).result() or {}, run / "model.safetensors"
    classes, resolution = result.get("classes"), result.get("resolution")
    if not file.is_file() or not isinstance(classes, list) or not isinstance(resolution, int):
        raise BadInput(f"{run} is no complete run with a final model: give the run directory of a probe or fine-tuning")
    network: nn.Module = resnet18(weights=None, num_classes=len(classes))
    load_into(network, load_weights(file), file)
    return FinalModel(network.eval(), tuple(classes), resolution)


def predict_packed(model: FinalModel, root: Path, device: torch.device) -> Predictions:
    """The predictions for the test split of a packed folder. Raises BadInput if its files are damaged."""
    folder = root / layout.STL10
    classes = read_classes(folder / "class_names.txt")
    test = read_labelled(folder, "test", classes)
    labels = [classes[label] for label in test.labels]
    with _progress() as progress:
        bar = progress.add_task("predicting", total=len(test))
        logits = predict(
            model.network, test, model.resolution, device, lambda done, _: progress.update(bar, completed=done)
        )
    return Predictions(_names_of_test(root, len(test)), labels, _indices(labels, model.classes), logits, {})


def predict_files(model: FinalModel, folder: Path, device: torch.device, *, pad: bool = False) -> Predictions:
    """The predictions for all images below a folder, prepared as `pack` does it. Raises BadInput without an image."""
    found = {printable(str(file.relative_to(folder))): (file, reason) for file, reason in files_below(folder)}
    unusable = {name: reason for name, (_, reason) in found.items() if reason}
    wanted = [name for name in found if name not in unusable]
    names, parts = [], []
    with _progress() as progress:
        bar = progress.add_task("predicting", total=len(wanted))
        for start in range(0, len(wanted), BATCH):
            chosen = wanted[start : start + BATCH]
            images = []
            for name, pixels in zip(chosen, read_images([found[n][0] for n in chosen], SIDE, pad=pad), strict=True):
                if isinstance(pixels, Unusable):
                    unusable[name] = str(pixels)
                else:
                    names.append(name)
                    images.append(pixels.transpose(2, 0, 1))
            if images:
                split = Split("images", np.stack(images), np.full(len(images), UNLABELED))
                parts.append(predict(model.network, split, model.resolution, device))
            progress.advance(bar, len(chosen))
    if not names:
        raise BadInput(f"{folder} has no image that can be read ({len(found):,} files): give a folder of images")
    labels = [next((part for part in Path(name).parts[:-1] if part in model.classes), "") for name in names]
    return Predictions(names, labels, _indices(labels, model.classes), np.concatenate(parts), unusable)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _names_of_test(root: Path, count: int) -> list[str]:
    """The names of the test images' files, if `pack` has listed them; otherwise their numbers."""
    try:
        with (root / FILES).open(encoding="utf-8", newline="") as file:
            names = [row["file"] for row in csv.DictReader(file) if row["split"] == "test"]
    except (OSError, ValueError, KeyError, csv.Error):
        names = []
    return names if len(names) == count else [f"test/{number}" for number in range(count)]


def _indices(labels: Sequence[str], classes: Sequence[str]) -> Indices:
    known = {name: index for index, name in enumerate(classes)}
    return np.array([known.get(label, UNLABELED) for label in labels], np.int64)


def csv_of(found: Predictions, classes: Sequence[str]) -> str:
    """A line for each file: its label, the predicted class, its probability and those of all classes, or a reason."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["file", "label", "predicted", "confidence", *(f"p({name})" for name in classes), "reason"])
    probabilities = torch.from_numpy(found.logits).double().softmax(dim=1).numpy()
    for name, label, own in zip(found.names, found.labels, probabilities, strict=True):
        if np.isfinite(own).all():
            values = [f"{value:.6f}" for value in own.tolist()]
            rows.writerow([name, label, classes[own.argmax()], f"{own.max():.6f}", *values, ""])
        else:
            rows.writerow([name, label, "", "", *([""] * len(classes)), "the model's output is not finite"])
    for name, reason in found.unusable.items():
        rows.writerow([name, "", "", "", *([""] * len(classes)), reason])
    return out.getvalue()


def report(found: Predictions, folder: Path, out: Path) -> str:
    """How many images were predicted, the accuracy, and how many files are unusable, in some lines for people."""
    lines = [f"{out} has the predictions for {len(found.names):,} images of {folder}"]
    measured = found.accuracy()
    if measured is None:
        lines.append("no accuracy: no image is in a folder with the name of one of the model's classes")
    elif measured["value"] is None:
        lines.append(f"no accuracy: {measured.get('reason')}")
    else:
        value, low, high = (f"{100 * (measured[key] or 0.0):.1f}" for key in ("value", "low", "high"))
        lines.append(f"accuracy: {value} % of {measured['n']:,} images with a label; 95 % interval {low} to {high} %")
    if found.unusable:
        lines.append(f"{len(found.unusable):,} files have no prediction; {out} has the reasons")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="ssl-study predict",
        description="Predicts the classes of images with the final model of a run. FOLDER is a folder of images, "
        "whose labels are known if they are in folders with the names of classes, or a packed folder, whose test "
        "images are predicted.",
        epilog="example: ssl-study predict runs/photos-quick/finetune-simclr-s0 photos/new --out new.csv",
    )
    parser.add_argument("run", metavar="RUN", help="run directory of a probe or a fine-tuning")
    parser.add_argument("folder", metavar="FOLDER", help="folder of the images, or a packed folder")
    parser.add_argument("--out", metavar="FILE", default=OUT, help=f"file to write (default: {OUT})")
    parser.add_argument("--pad", action="store_true", help="keep whole images, as `pack --pad` does")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: the GPU, if any")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _predict(options), options.out, "no prediction was written")


def _predict(options: argparse.Namespace) -> None:
    run, folder, out = (Path(expand_path(name, getattr(options, name))) for name in ("run", "folder", "out"))
    if out.exists():
        raise BadInput(f"{out} exists: move it away, or give another file by --out")
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}: give a folder of images")
    model = load_final_model(run)
    device, _ = choose_device(options.device)
    torch.set_num_threads(cores())
    to_device(model.network, device)
    is_packed = (folder / layout.STL10).is_dir()
    found = (predict_packed if is_packed else partial(predict_files, pad=options.pad))(model, folder, device)
    write_atomic(out, csv_of(found, model.classes).encode())
    print(report(found, folder, out))


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
