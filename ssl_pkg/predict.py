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
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import nn
from torchvision.models import resnet18

from ssl_pkg import layout
from ssl_pkg.console import Parser, run_command
from ssl_pkg.data.image_files import Unusable, files_below, is_padded, printable, read_images
from ssl_pkg.data.images import UNLABELED, Indices, Split
from ssl_pkg.data.names import listed
from ssl_pkg.data.pack_summary import FILES
from ssl_pkg.data.photographs import label_of
from ssl_pkg.data.stl10 import read_classes, read_labelled
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.accuracy import accuracy
from ssl_pkg.evaluation.forward import BATCH, Array, predict
from ssl_pkg.hardware.device import choose_device
from ssl_pkg.hardware.machine import cores
from ssl_pkg.layout import SIDE
from ssl_pkg.models.encoder import to_device
from ssl_pkg.overrides import expand_path
from ssl_pkg.rows import Row
from ssl_pkg.run.directory import RunDirectory, write_atomic
from ssl_pkg.run.manifest import read_packed
from ssl_pkg.run.weights import load_facts, load_into, load_weights
from ssl_pkg.streams import prepare_streams

OUT: Final = "predictions.csv"


@dataclass(frozen=True)
class FinalModel:
    """A classifier in eval mode, the names of its classes, and the side of its images in pixels.

    padded: whether its training images were padded to squares instead of cropped; None if its weights don't say so.
    """

    network: nn.Module
    classes: tuple[str, ...]
    resolution: int
    padded: bool | None


@dataclass(frozen=True)
class Predictions:
    """The logits (n, C) of n images with their names and labels, class names or empty, and the files without logits.

    indices: of the labels in the model's classes (n,), UNLABELED for a label that is unknown to the model.
    """

    names: list[str]
    labels: list[str]
    indices: Indices
    logits: Array
    unusable: list[tuple[str, str]]  # names and reasons

    def accuracy(self) -> Row | None:
        """The share of right predictions with its 95 % interval; None without images of the model's classes."""
        known = self.indices != UNLABELED
        return accuracy("predict", "accuracy", self.logits[known], self.indices[known]) if known.any() else None


def load_final_model(run: Path) -> FinalModel:
    """The final model of a complete run. Raises BadInput if there is none."""
    result, file = RunDirectory(run).result() or {}, run / "model.safetensors"
    classes, resolution = result.get("classes"), result.get("resolution")
    try:
        exists = file.is_file()
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
    if not exists or not isinstance(classes, list) or not isinstance(resolution, int):
        raise BadInput(f"{run} is no complete run with a final model: give the run directory of a probe or fine-tuning")
    network: nn.Module = resnet18(weights=None, num_classes=len(classes))
    load_into(network, load_weights(file), file)
    padded = is_padded(load_facts(file).get("photograph"), SIDE)
    return FinalModel(network.eval(), tuple(classes), resolution, padded)


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
    return Predictions(_names_of_test(root, len(test)), labels, _indices(labels, model.classes), logits, [])


def predict_files(model: FinalModel, folder: Path, device: torch.device, *, pad: bool) -> Predictions:
    """The predictions for all images below a folder, prepared as `pack` does it. Raises BadInput without an image."""
    found = [(file, printable(str(file.relative_to(folder))), reason) for file, reason in files_below(folder)]
    unusable = [(name, reason) for _, name, reason in found if reason]
    wanted = [(file, name) for file, name, reason in found if not reason]
    names, labels, parts = [], [], []
    with _progress() as progress:
        bar = progress.add_task("predicting", total=len(wanted))
        for start in range(0, len(wanted), BATCH):
            chosen = wanted[start : start + BATCH]
            images = []
            for (file, name), pixels in zip(chosen, read_images([f for f, _ in chosen], SIDE, pad=pad), strict=True):
                if isinstance(pixels, Unusable):
                    unusable.append((name, str(pixels)))
                else:
                    names.append(name)
                    above = map(label_of, file.relative_to(folder).parts[:-1])
                    labels.append(next((label for label in above if label in model.classes), ""))
                    images.append(pixels.transpose(2, 0, 1))
            if images:
                split = Split("images", np.stack(images), np.full(len(images), UNLABELED))
                parts.append(predict(model.network, split, model.resolution, device))
            progress.advance(bar, len(chosen))
    if not names:
        raise BadInput(f"{folder} has no image that can be read ({len(found):,} files): give a folder of images")
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
    for name, reason in found.unusable:
        rows.writerow([name, "", "", "", *([""] * len(classes)), reason])
    return out.getvalue()


def report(found: Predictions, folder: Path, out: Path) -> str:
    """How many images were predicted, the accuracy, and how many files are unusable, in some lines for people."""
    lines = [f"{out} has the predictions for {len(found.names):,} images of {folder}"]
    measured = found.accuracy()
    strange = [label for label, index in zip(found.labels, found.indices, strict=True) if label and index == UNLABELED]
    if measured is None:
        lines.append("no accuracy: no image is in a folder with the name of one of the model's classes")
    elif measured["value"] is None:
        lines.append(f"no accuracy: {measured.get('reason')}")
    else:
        value, low, high = (f"{100 * (measured[key] or 0.0):.1f}" for key in ("value", "low", "high"))
        kind = "of the model's classes" if strange else "with a label"
        lines.append(f"accuracy: {value} % of {measured['n']:,} images {kind}; 95 % interval {low} to {high} %")
    if strange:
        names = listed(sorted(set(strange)))
        lines.append(f"{len(strange):,} images have a class that the model does not know: {names}")
    if found.unusable:
        lines.append(f"{len(found.unusable):,} files have no prediction; {out} has the reasons")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="ssl-study predict",
        description="Predicts the classes of images with the final model of a run. FOLDER is a folder of images, "
        "whose labels are known if they are in folders with the names of classes, or a packed folder, whose test "
        "images are predicted.",
        epilog="example: ssl-study predict runs/photos-quick/finetune-simclr-s0 photos-new --out new.csv",
    )
    parser.add_argument("run", metavar="RUN", help="run directory of a probe or a fine-tuning")
    parser.add_argument("folder", metavar="FOLDER", help="folder of the images, or a packed folder")
    parser.add_argument("--out", metavar="FILE", default=OUT, help=f"file to write (default: {OUT})")
    parser.add_argument(
        "--pad", action="store_true", help="keep whole images; only for weights that don't say how to prepare them"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: the GPU, if any")
    return run_command(parser, arguments, _predict, target="out", left="no prediction was written")


def _predict(options: argparse.Namespace) -> None:
    run, folder, out = (Path(expand_path(name, getattr(options, name))) for name in ("run", "folder", "out"))
    _refuse_unwritable(out)
    packed = _is_packed(folder)
    model = load_final_model(run)
    pad = _pad(options.pad, model, folder, packed)
    device, _ = choose_device(options.device)
    torch.set_num_threads(cores())
    to_device(model.network, device)
    found = predict_packed(model, folder, device) if packed else predict_files(model, folder, device, pad=pad)
    write_atomic(out, csv_of(found, model.classes).encode())
    print(report(found, folder, out))


def _refuse_unwritable(out: Path) -> None:
    """Raises BadInput or OSError, before anything is computed, if `out` exists or can't be written."""
    if os.path.lexists(out):
        raise BadInput(f"{out} exists: move it away, or give another file by --out")
    if not out.parent.is_dir():
        raise BadInput(f"there is no folder {out.parent}: create it, or give another file by --out")
    tempfile.TemporaryFile(dir=out.parent).close()


def _is_packed(folder: Path) -> bool:
    """Whether the folder is a packed one. Raises BadInput if there is no such folder, or if it can't be read."""
    try:
        if not folder.is_dir():
            raise BadInput(f"there is no folder {folder}: give a folder of images")
        return (folder / layout.STL10).is_dir()
    except OSError as error:
        raise BadInput(f"can't read {folder}: {error.strerror}") from error


def _pad(wanted: bool, model: FinalModel, folder: Path, packed: bool) -> bool:
    """Whether to pad images to squares, as it was done with the training images. Raises BadInput if --pad is wrong.

    Prints a note if the images of a packed folder were prepared in another way.
    """
    if wanted and packed:
        raise BadInput(f"the images in {folder} are packed, so --pad has no effect: leave it out")
    if wanted and model.padded is False:
        raise BadInput(
            "the model was trained on the centres of images, so --pad would change its predictions: leave it out"
        )
    own = is_padded(read_packed(folder).get("preparation"), SIDE) if packed else None
    if own is not None and model.padded is not None and own != model.padded:
        kinds = {False: "cropped to their centres", True: "padded to squares"}
        print(
            f"note: the images in {folder} were {kinds[own]}, those of the training {kinds[model.padded]}",
            file=sys.stderr,
        )
    return wanted or bool(model.padded)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
