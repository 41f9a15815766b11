"""Reads the arrays and metrics in a run directory (shapes: `ssl_pkg/run/directory.py`).

A file with damaged or contradictory arrays is treated as missing, so that the figures need no checks of their own;
`fault_of` says what is wrong with such a file.
"""

import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from analysis.words import N_, _
from ssl_pkg.catalogue import STAGES

Arrays = dict[str, np.ndarray[Any, Any]]
# The axes of each array. A letter stands for the same length in the whole file, a digit for that length.
_AXES: Final = {
    stage.artifact.file: {**stage.artifact.arrays, **stage.artifact.optional}
    for stage in STAGES.values()
    if stage.artifact
}
_INDICES: Final = ("labels", "steps")  # arrays whose names end so hold integers >= 0
_UNBOUNDED: Final = ("loss", "accuracy", "plane")  # may be infinite, because the loss can overflow far from an optimum


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of an npz artifact; None if the file is missing or damaged, or if a shape is wrong."""
    content = _read(path)
    return None if isinstance(content, str) else content


def fault_of(path: Path) -> str | None:
    """What makes an npz artifact unusable, as the end of a sentence; None if it is usable."""
    content = _read(path)
    return content if isinstance(content, str) else None


def _read(path: Path) -> Arrays | str:
    """The arrays, or the reason why the file is unusable."""
    axes = _AXES[path.name]
    try:
        with zipfile.ZipFile(path) as archive:
            # Read whole members instead of np.load(file), because zipfile checks a checksum only at the member's end.
            members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
        present = [name for name in axes if name in members]
        arrays = {name: np.lib.format.read_array(members[name], allow_pickle=False) for name in present}
    except Exception:  # a wrong byte can raise zlib.error, NotImplementedError, RuntimeError, ValueError and others
        return _("is damaged") if path.exists() else _("is missing")
    return _misfit(arrays, axes) or arrays


def _misfit(arrays: Arrays, axes: Mapping[str, str]) -> str:
    """What is wrong with the first unusable array, as the end of a sentence; empty if all are usable."""
    lengths = {"2": 2}
    for name, array in arrays.items():
        index = name.endswith(_INDICES)
        if array.dtype.kind not in ("iu" if index else "iuf"):
            return _("has {array} of type {type}", array=name, type=array.dtype)
        if array.ndim != len(axes[name]) or array.size == 0:
            return _("has {array} of shape {shape}", array=name, shape=array.shape)
        if any(lengths.setdefault(axis, size) != size for axis, size in zip(axes[name], array.shape, strict=True)):
            return _("has {array} of shape {shape}, which contradicts its other arrays", array=name, shape=array.shape)
        if name not in _UNBOUNDED and not (array >= 0 if index else np.isfinite(array)).all():
            text = (
                N_("has values of {array} that are negative")
                if index
                else N_("has values of {array} that are not finite")
            )
            return _(text, array=name)
    return ""


def picture(path: Path) -> bytes | None:
    """The bytes of a PNG file; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
    except Exception:  # Pillow raises many kinds of errors on a damaged file
        return None
    return content


def metric_frame(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Metric lines as a data frame.

    A value that is not a finite number becomes nan. A line without a step and a column without any number are omitted.
    """
    rows = []
    for line in lines:
        row = numbers(line)
        if isinstance(line.get("phase"), str):
            row["phase"] = line["phase"]
        if "step" in row:
            rows.append(row)
    return pd.DataFrame(rows)


def numbers(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are finite numbers."""
    return {name: value for name, value in entries.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    # Not math.isfinite, which raises OverflowError for the large integers that JSON can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
