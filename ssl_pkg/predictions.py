"""The predictions of a final model: as a table for programs, and in some lines for people."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.cells import cell_len, set_cell_size

from ssl_pkg.data.images import UNLABELED, Indices
from ssl_pkg.data.names import listed
from ssl_pkg.evaluation.accuracy import accuracy
from ssl_pkg.evaluation.forward import Array
from ssl_pkg.messages.counted import counted
from ssl_pkg.rows import Row

Shares = np.ndarray[Any, np.dtype[np.float64]]
Finite = np.ndarray[Any, np.dtype[np.bool_]]
SHOWN: Final = 10  # classes in the terminal
NAME_WIDTH: Final = 40  # cells of the terminal; longer class names are cut
COLUMNS: Final = (  # of the CSV file, for people
    "`file`, its path in FOLDER or in the folder that was packed, with escapes for line breaks and other characters "
    "that can't be printed; `label`, its class if that is known; `predicted`, the most probable class; `confidence`, "
    "its probability; `p(CLASS)`, the probability of each class; `reason`, why there is no prediction"
)


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

    def probabilities(self) -> tuple[Shares, Finite]:
        """The probabilities of the classes (n, C), and which images (n,) have finite ones."""
        shares = torch.from_numpy(self.logits).double().softmax(dim=1).numpy()
        return shares, np.isfinite(shares).all(axis=1)


def csv_of(found: Predictions, classes: Sequence[str]) -> str:
    """The predictions as CSV, with the columns of COLUMNS and a header."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["file", "label", "predicted", "confidence", *(f"p({name})" for name in classes), "reason"])
    for name, label, own, finite in zip(found.names, found.labels, *found.probabilities(), strict=True):
        if finite:
            values = [f"{value:.6f}" for value in own.tolist()]
            rows.writerow([name, label, classes[own.argmax()], f"{own.max():.6f}", *values, ""])
        else:
            rows.writerow([name, label, "", "", *([""] * len(classes)), "the model's output is not finite"])
    for name, reason in found.unusable:
        rows.writerow([name, "", "", "", *([""] * len(classes)), reason])
    return out.getvalue()


def report(found: Predictions, classes: Sequence[str], folder: Path, out: Path) -> str:
    """How many images were predicted as which class, the accuracy, and how many files are unusable, for people."""
    shares, finite = found.probabilities()
    lines = [f"{out} has the predictions for {counted(int(finite.sum()), 'image')} of {folder}"]
    lines += _counts(shares[finite], classes)
    measured = found.accuracy()
    strange = [label for label, index in zip(found.labels, found.indices, strict=True) if label and index == UNLABELED]
    if measured is None:
        lines.append("no accuracy: no image is in a folder with the name of one of the model's classes")
    elif measured["value"] is None:
        lines.append(f"no accuracy: {measured.get('reason')}")
    else:
        value, low, high = (f"{100 * (measured[key] or 0.0):.1f}" for key in ("value", "low", "high"))
        kind = "of the model's classes" if strange else "with a label"
        tested = counted(measured["n"], "image")
        lines.append(f"accuracy: {value} % of {tested} {kind}; 95 % interval {low} to {high} %")
    if strange:
        names = listed(sorted(set(strange)))
        have = counted(len(strange), "image has", "images have")
        lines.append(f"{have} a class that the model does not know: {names}")
    outside = [name.rpartition("/")[0] for name, label in zip(found.names, found.labels, strict=True) if not label]
    if measured is not None and any(outside):
        names = listed(sorted({folder for folder in outside if folder}))
        are = counted(sum(map(bool, outside)), "image is", "images are")
        lines.append(f"{are} in folders without the name of one of the model's classes: {names}")
    without = len(found.unusable) + int((~finite).sum())
    if without:
        lines.append(f"files without a prediction: {without:,}; {out} has the reasons")
    return "\n".join(lines)


def _counts(shares: Shares, classes: Sequence[str]) -> list[str]:
    """A table of the classes that were predicted most often, or of all if they are few. shares: (n, C)."""
    predicted, confidence = shares.argmax(axis=1), shares.max(axis=1)
    counts = np.bincount(predicted, minlength=len(classes))
    order = np.argsort(-counts, kind="stable").tolist()
    shown = order if len(order) <= SHOWN else [label for label in order[:SHOWN] if counts[label]]
    width = min(NAME_WIDTH, max(cell_len(name) for name in ("predicted", *(classes[label] for label in shown))))
    lines = [f"  {set_cell_size('predicted', width)}  images  mean confidence"]
    for label in shown:
        mean = f"{confidence[predicted == label].mean():.3f}" if counts[label] else "-"
        lines.append(f"  {set_cell_size(classes[label], width)} {counts[label]:>7,}  {mean:>15}")
    rest = [label for label in order if label not in shown]
    if rest:
        lines.append(f"  other classes ({len(rest):,}): {counted(int(counts[rest].sum()), 'image')}")
    return lines
