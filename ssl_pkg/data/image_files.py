"""Finds the files in a folder of photographs and reads each as a small RGB image, or says why it can't be used."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from ssl_pkg.hardware.machine import cores

# Not all of Pillow's formats, because for EPS it starts Ghostscript, which runs the file as a program.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
HEIC: Final = (b"ftyphei", b"ftyphev", b"ftypmif1")  # at byte 4; Pillow can't decode this format of some phones
SMALLEST: Final = 8  # pixels; an image with a shorter side shows nothing
JPEG_MARGIN: Final = 3  # a JPEG is decoded at a reduced size that is at least this multiple of the final one
DARKEST: Final = 1 << 12  # 16-bit images whose values are all below have data of 12 bits or fewer
SIGNED: Final = 2  # TIFF's SampleFormat
WHITE_IS_ZERO: Final = 0  # TIFF's PhotometricInterpretation
SAMPLE: Final = 500  # files whose shape is looked at
IN_FLIGHT: Final = 64  # files that are read at the same time or wait for their turn

# of macOS, Python, Synology, QNAP, Windows and Unix; others are hidden (Git, Jupyter)
SYSTEM_FOLDERS: Final = (
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin",
    "system volume information", "lost+found",
)  # fmt: skip

CROP: Final = "crop"
PAD: Final = "pad"

Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # (side, side, 3), RGB


class Unusable(Exception):
    """A file can't be used as an image. The message completes a sentence that starts with the file's name."""


def printable(name: str) -> str:
    """The name with Python's escapes for backslashes and for what can't be printed: line breaks, bytes outside UTF-8.

    Two names never become the same.
    """
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)


def files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """All files below `folder`, sorted by path within each folder, each with the reason why it can't be an image.

    The reason is empty for a regular file outside of system folders. Symbolic links are followed, except to a folder
    that is inside of `folder` or contains it, because its files have places of their own, which say their classes. Such
    a link, and a folder that was reached before or can't be read, is returned instead of its files, with the reason.
    """
    waiting, seen, root = [(folder, "")], set(), folder.resolve()
    while waiting:
        current, system = waiting.pop()
        try:
            facts = current.stat()
            entries = sorted(current.iterdir(), key=os.fsencode)
        except OSError as error:
            yield current, f"can't be read ({error.strerror})"
            continue
        if (facts.st_dev, facts.st_ino) in seen:
            yield current, "is a link to a folder that has been read already"
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders = []
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                link = os.path.islink(entry)  # noqa: PTH114 (Path.is_symlink can raise this error again)
                kind = "is a symbolic link that can't be followed" if link else "can't be read"
                yield entry, f"{kind} ({error.strerror})"
                continue
            if stat.S_ISDIR(mode) and entry.is_symlink() and _overlap(entry.resolve(), root):
                yield entry, f"is a link to a folder that is in {folder} itself, or above it"
            elif stat.S_ISDIR(mode):
                kind = "hidden folder" if entry.name.startswith(".") else "system folder"
                own = f"is in the {kind} {printable(entry.name)}" if is_system(entry.name) else ""
                folders.append((entry, system or own))
            else:
                yield entry, system or ("" if stat.S_ISREG(mode) else "is not a regular file")
        waiting += reversed(folders)


def is_system(folder: str) -> bool:
    """Whether a folder with this name is hidden, or is one that a system makes for its own files."""
    return folder.startswith(".") or folder.casefold() in SYSTEM_FOLDERS


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def preparation(side: int, *, pad: bool) -> dict[str, Any]:
    """How `read_images` turns a photograph into an image of `side` x `side` pixels, for files that record it.

    fit: CROP or PAD.
    """
    return {"orientation": "EXIF", "fit": PAD if pad else CROP, "side": side, "interpolation": "bicubic, antialias"}


def is_padded(recorded: object, side: int) -> bool | None:
    """Whether a recorded preparation pads images; None if there is no record, or an unknown one."""
    return next((pad for pad in (False, True) if recorded == preparation(side, pad=pad)), None)


def share_cropped(files: Sequence[Path]) -> float:
    """The share of its area that the median image loses by a crop to a square, from the headers of up to SAMPLE files.

    The files are images that `read_images` can read.
    """
    lost = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data
        for file in files[:: max(1, -(-len(files) // SAMPLE))]:
            with suppress(Exception), Image.open(file, formats=FORMATS) as image:  # the file may have changed since
                lost.append(1 - min(image.size) / max(image.size))
    return median(lost) if lost else 0.0


def read_images(files: Sequence[Path], side: int, *, pad: bool = False) -> Iterator[Pixels | Unusable]:
    """Reads the files in threads. Yields, in their order, the pixels (side, side, 3) of each or why it is unusable.

    The image is turned as its EXIF data say. Transparent pixels become white. It is scaled with antialiasing so that it
    covers the square, and its centre is kept; with `pad` the whole image is kept, on a black square.
    """
    Image.init()  # registers all formats
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # colour profiles can exceed the default of 1 MB
    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
        warnings.simplefilter("ignore")  # of damaged EXIF data, of which only the orientation matters
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for start in range(0, len(files), IN_FLIGHT):
            yield from pool.map(partial(_read, side=side, pad=pad), files[start : start + IN_FLIGHT])


def _read(file: Path, side: int, pad: bool) -> Pixels | Unusable:
    try:
        if file.stat().st_size == 0:
            raise Unusable("is empty")
        with Image.open(file, formats=FORMATS) as image:
            if min(image.size) < SMALLEST:
                raise Unusable(f"has {image.width} x {image.height} pixels, and {SMALLEST} x {SMALLEST} are needed")
            if pad and min(image.size) * side < SMALLEST * max(image.size):
                raise Unusable(f"has {image.width} x {image.height} pixels: padded to a square, it would show nothing")
            bits = _bits(image)
            image.draft(None, (JPEG_MARGIN * side, JPEG_MARGIN * side))
            inverted = getattr(image, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
            picture = _rgb(_upright(image), bits, inverted)
        square = (ImageOps.pad if pad else ImageOps.fit)(picture, (side, side), Image.Resampling.BICUBIC)
        return np.asarray(square)
    except Unusable as error:
        return error
    except UnidentifiedImageError:
        return Unusable(_why_not(file))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        return Unusable(f"has more than {limit} million pixels: save it smaller")
    except Exception as error:  # a damaged file can raise almost anything
        words = (getattr(error, "strerror", None) or str(error) or type(error).__name__).split()
        return Unusable(f"can't be read ({printable(' '.join(words))})")


def _why_not(file: Path) -> str:
    """The reason why Pillow does not know the file's format."""
    with file.open("rb") as content:
        if content.read(12)[4:].startswith(HEIC):
            return "is a HEIC image, which can't be read: save it as JPEG"
    return f"is not an image ({', '.join(FORMATS)})"


def _bits(image: Image.Image) -> int:
    """The bits per channel of a file that is open, but not decoded: 8, 12 or 16. Decoded colours have 8 bits.

    Raises Unusable for signed values and for those of 32 bits, because no rule says which of them are black and white.
    """
    coding = str(getattr(image, "tile", ""))
    if SIGNED in getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise Unusable("has signed values: save it with 8 bits, from 0 to 255")
    wide_grey = (image.mode, image.format) == ("I", "PPM")  # 16 bits, which Pillow decodes to 32
    if image.mode in ("I", "F") and not wide_grey:
        raise Unusable("has 32 bits per pixel and channel: save it with 8 bits")
    if "I;12" in coding:
        return 12
    deep_colours = image.format in ("PNG", "TIFF") and ";16" in coding
    return 16 if deep_colours or wide_grey or image.mode.startswith("I;16") else 8


def _upright(image: Image.Image) -> Image.Image:
    """The image, turned as its EXIF data say. Damaged EXIF data are ignored, as viewers do it."""
    image.load()
    with suppress(Exception):  # damaged EXIF data can raise almost anything
        image.getexif()  # is kept by the image, so that Pillow need not write the data below again, which can fail
        for name in ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"):
            image.info.pop(name, None)
        image = ImageOps.exif_transpose(image)
    return image


def _rgb(image: Image.Image, bits: int, inverted: bool) -> Image.Image:
    """bits: per channel of the file. inverted: whether 0 is white, which Pillow ignores in grey images above 8 bits."""
    grey = image.mode.startswith("I")
    if bits == 16:
        largest = int(np.asarray(image).max()) if grey else int(np.asarray(image.convert("RGB")).max()) << 8
        if largest < DARKEST:
            raise Unusable(
                "uses only the lower 12 of its 16 bits per channel, so it is almost black: save it with 8 bits"
            )
    if grey:  # Pillow's conversion would clip values above 255
        values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
        image = Image.fromarray(255 - values if inverted else values)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
