"""Predicts the classes of images with a final model: `ssl-study predict RUN FOLDER`.

FOLDER is a packed folder, whose test split is predicted, or any folder of images. The label of an image is known if the
image is in a folder with the name of a class.
"""

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18

from ssl_pkg import layout
from ssl_pkg.catalogue import ADAPTATIONS, FINAL_MODEL_FILE
from ssl_pkg.config.overrides import expand_path
from ssl_pkg.console import Parser, progress_bar, run_command
from ssl_pkg.data.image_files import Unusable, files_below, is_padded, printable, read_images
from ssl_pkg.data.images import UNLABELED, Indices, Split
from ssl_pkg.data.pack_summary import FILES
from ssl_pkg.data.photographs import label_of
from ssl_pkg.data.stl10 import read_classes, read_labelled
from ssl_pkg.errors import BadInput, reading, shortened
from ssl_pkg.evaluation.forward import BATCH, outputs
from ssl_pkg.hardware.device import choose_device
from ssl_pkg.hardware.machine import cores
from ssl_pkg.layout import CLASS_NAMES, SIDE
from ssl_pkg.messages.counted import counted
from ssl_pkg.messages.nearest import hint
from ssl_pkg.models.encoder import to_device
from ssl_pkg.predictions import COLUMNS, Predictions, csv_of, report
from ssl_pkg.run.directory import RESULT, RunDirectory, write_atomic
from ssl_pkg.run.manifest import read_packed
from ssl_pkg.run.weights import load_facts, load_into, load_weights

OUT: Final = "predictions.csv"


@dataclass(frozen=True)
class FinalModel:
    """A classifier in eval mode, the names of its classes, and the side of its images in pixels.

    padded: whether its training images were padded to squares instead of cropped.
    """

    network: nn.Module
    classes: tuple[str, ...]
    resolution: int
    padded: bool


def load_final_model(run: Path) -> FinalModel:
    """The final model of a complete run. Raises BadInput if there is none."""
    file = run / FINAL_MODEL_FILE
    with reading(file):
        exists = file.is_file()
    result = RunDirectory(run).result()
    if result is None or not exists:
        raise BadInput(_why_no_final_model(run, result))
    classes, resolution = result.get("classes"), result.get("resolution")
    if not isinstance(classes, list) or not isinstance(resolution, int):
        raise BadInput(f"{run / RESULT} lacks the classes or the resolution of the model: restore the file")
    network: nn.Module = resnet18(weights=None, num_classes=len(classes))
    load_into(network, load_weights(file), file)
    padded = is_padded(load_facts(file).get("photograph"), SIDE)
    if padded is None:
        raise BadInput(f"{file} does not say how its images were prepared: run its stage again")
    return FinalModel(network.eval(), tuple(classes), resolution, padded)


def _why_no_final_model(run: Path, result: dict[str, Any] | None) -> str:
    """The message about a run without a final model. result: None if the run is not complete."""
    trained = [str(file.parent) for file in run.parent.glob(f"*/{FINAL_MODEL_FILE}")]
    near = hint(str(run), trained)
    if not run.exists():
        return f"there is no run {run}{near}: give the run directory of a probe or fine-tuning"
    if result is None and not any((run / name).exists() for name in ("config.yaml", FINAL_MODEL_FILE)):
        return f"{run} is not a run directory: give that of a probe or fine-tuning, like runs/STUDY/probe-simclr-s0"
    if result is None:
        return f"the run {run} is not complete: run its study again, which resumes it"
    if (stage := result.get("stage")) not in ADAPTATIONS:
        return f"{run} is a run of the stage {stage}, without a final model{near}: give that of a probe or fine-tuning"
    return f"the run {run} lacks its {FINAL_MODEL_FILE}: restore the file, or remove the run and run its study again"


def predict_packed(model: FinalModel, root: Path, device: torch.device) -> Predictions:
    """The predictions for the test split of a packed folder. Raises BadInput if its files are damaged."""
    folder = root / layout.STL10
    classes = read_classes(folder / CLASS_NAMES)
    test = read_labelled(folder, "test", classes)
    labels = [classes[label] for label in test.labels]
    with progress_bar() as progress:
        bar = progress.add_task("predicting", total=len(test))
        logits = outputs(
            model.network, test, model.resolution, device, lambda done, _: progress.update(bar, completed=done)
        )
    return Predictions(_names_of_test(root, len(test)), labels, _indices(labels, model.classes), logits, [])


def predict_files(model: FinalModel, folder: Path, device: torch.device) -> Predictions:
    """The predictions for all images below a folder, prepared as in the training. Raises BadInput without an image."""
    found = [(file, printable(str(file.relative_to(folder))), reason) for file, reason in files_below(folder)]
    unusable = [(name, reason) for _, name, reason in found if reason]
    wanted = [(file, name) for file, name, reason in found if not reason]
    names, labels, parts = [], [], []
    with progress_bar() as progress:
        bar = progress.add_task("predicting", total=len(wanted))
        for start in range(0, len(wanted), BATCH):
            chosen = wanted[start : start + BATCH]
            images = []
            for (file, name), pixels in zip(
                chosen, read_images([f for f, _ in chosen], SIDE, pad=model.padded), strict=True
            ):
                if isinstance(pixels, Unusable):
                    unusable.append((name, str(pixels)))
                else:
                    names.append(name)
                    above = map(label_of, file.relative_to(folder).parts[:-1])
                    labels.append(next((label for label in above if label in model.classes), ""))
                    images.append(pixels.transpose(2, 0, 1))
            if images:
                split = Split("images", np.stack(images), np.full(len(images), UNLABELED))
                parts.append(outputs(model.network, split, model.resolution, device))
            progress.advance(bar, len(chosen))
    if not names:
        why = shortened(f"; {unusable[0][0]} {unusable[0][1]}") if unusable else ""
        number = counted(len(found), "file")
        raise BadInput(f"{folder} has no image that can be read ({number}{why}): give a folder of images")
    return Predictions(names, labels, _indices(labels, model.classes), np.concatenate(parts), unusable)


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


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="ssl-study predict",
        description="Predicts the classes of images with the final model of a run. FOLDER is a folder of images, "
        "whose labels are known if they are in folders with the names of classes, or a packed folder, whose test "
        "images are predicted. FILE is CSV in UTF-8, with a line for each file of FOLDER, or for each test image of a "
        f"packed folder: {COLUMNS}.",
        epilog="example: ssl-study predict runs/photos-quick/finetune-simclr-s0 photos-new --out new.csv",
    )
    parser.add_argument("run", metavar="RUN", help="run directory of a probe or a fine-tuning")
    parser.add_argument("folder", metavar="FOLDER", help="folder of the images, or a packed folder")
    parser.add_argument("--out", metavar="FILE", default=OUT, help=f"file to write (default: {OUT})")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: the GPU, if any")
    return run_command(parser, arguments, _predict, target="out", left="no prediction was written")


def _predict(options: argparse.Namespace) -> None:
    run, folder = Path(expand_path("RUN", options.run)), Path(expand_path("FOLDER", options.folder))
    out = Path(expand_path("--out", options.out, "file"))
    with reading(run):
        model = load_final_model(run)
    packed = _is_packed(folder)
    _refuse_unwritable(out)
    if packed:
        _note_other_preparation(model, folder)
    device, _ = choose_device(options.device)
    torch.set_num_threads(cores())
    to_device(model.network, device)
    with reading(folder):
        found = predict_packed(model, folder, device) if packed else predict_files(model, folder, device)
    write_atomic(out, csv_of(found, model.classes).encode())
    print(report(found, model.classes, folder, out))


def _refuse_unwritable(out: Path) -> None:
    """Raises BadInput or OSError, before anything is computed, if `out` exists or can't be written."""
    if os.path.lexists(out):
        raise BadInput(f"{out} exists: move it away, or give another file with --out")
    if not out.parent.is_dir():
        raise BadInput(f"there is no folder {out.parent}: create it, or give another file with --out")
    tempfile.TemporaryFile(dir=out.parent).close()


def _is_packed(folder: Path) -> bool:
    """Whether the folder is a packed one. Raises BadInput if there is no such folder, or if it can't be read."""
    with reading(folder):
        if not folder.is_dir():
            raise BadInput(f"there is no folder {folder}: give a folder of images")
        return (folder / layout.STL10).is_dir()


def _note_other_preparation(model: FinalModel, folder: Path) -> None:
    """Prints a note if the images of a packed folder were prepared in another way than those of the training."""
    own = is_padded(read_packed(folder).get("preparation"), SIDE)
    if own is not None and own != model.padded:
        kinds = {False: "cropped to their centres", True: "padded to squares"}
        print(
            f"note: the images in {folder} were {kinds[own]}, those of the training {kinds[model.padded]}",
            file=sys.stderr,
        )
