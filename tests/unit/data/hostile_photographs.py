"""Photographs for the tests of packing: synthetic ones of mixed sizes, and files that can't be used or look odd."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """A smooth random image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_photographs(root: Path, classes: int, count: int, unlabeled: int = 0, start: int = 1000) -> Path:
    """Writes ROOT/class00/000.png and so on; sizes from 60 to 400 pixels; seeds from `start`. Returns `root`."""
    sizes = np.random.default_rng(0).integers(60, 400, (classes * count + unlabeled, 2)).tolist()
    for number, (width, height) in enumerate(sizes):
        label, index = divmod(number, count)
        folder = root / (f"class{label:02d}" if label < classes else "unlabeled")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{index:03d}.png" if label < classes else f"{number:04d}.png"
        picture(start + number, width, height).save(folder / name)
    return root


def bomb(file: Path) -> None:
    """A PNG of some hundred bytes whose header promises 2.5 gigapixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def write_hostile(folder: Path) -> tuple[list[str], list[str]]:
    """Writes 12 odd files that can be packed and 19 that can't into the folder. Returns the names of both."""
    folder.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 65535, 100 * 80).reshape(80, 100)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    packable = {
        "sixteen bits.png": lambda file: Image.fromarray(ramp.astype(np.uint16)).save(file),
        "cmyk.jpg": lambda file: picture(1).convert("CMYK").save(file),
        "animated.gif": lambda file: picture(2).save(file, save_all=True, append_images=[picture(3), picture(4)]),
        "turned.jpg": lambda file: picture(5).save(file, exif=exif),
        "transparent.png": lambda file: picture(6).convert("RGBA").save(file),
        "palette.png": lambda file: picture(7).convert("P").save(file, transparency=0),
        "one bit.png": lambda file: picture(8).convert("1").save(file),
        "grey and alpha.png": lambda file: picture(9).convert("LA").save(file),
        "webp called jpg.jpg": lambda file: picture(10).save(file, "WEBP"),
        "a\nline break.png": lambda file: picture(11).save(file),
        "wide.png": lambda file: picture(12, 3000, 9).save(file),
        "large.jpg": lambda file: picture(13, 5000, 4000).save(file),
    }
    whole = folder / "whole.jpg"
    picture(14, 400, 300).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    unusable = {
        "truncated.jpg": lambda file: file.write_bytes(content[: len(content) // 2]),
        "header only.jpg": lambda file: file.write_bytes(content[:200]),
        "zeros inside.png": _damage,
        "thin.png": lambda file: picture(15, 1, 5000).save(file),
        "empty.jpg": lambda file: file.touch(),
        "text.jpg": lambda file: file.write_text("not an image"),
        "page.html": lambda file: file.write_text("<html></html>"),
        "Thumbs.db": lambda file: file.write_bytes(bytes(range(256)) * 8),
        "script.eps": lambda file: file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(x) print"),
        "bomb.png": bomb,
        "floats.tiff": lambda file: Image.fromarray(ramp.astype(np.float32)).save(file),
        "to nothing.jpg": lambda file: file.symlink_to("missing.jpg"),
        "to itself.jpg": lambda file: file.symlink_to(file.name),
        "loop": lambda file: file.symlink_to("."),
        "parent": lambda file: file.symlink_to(".."),
        "device.jpg": lambda file: file.symlink_to("/dev/zero"),
        "pipe.jpg": os.mkfifo,
        "deep.svg": lambda file: file.write_text("<svg/>"),
        "random.bin": lambda file: file.write_bytes(np.random.default_rng(0).bytes(5000)),
    }
    for name, write in (packable | unusable).items():
        write(folder / name)
    latin = os.fsencode(folder) + b"/caf\xe9.png"
    picture(16).save(folder / "temporary.png")
    (folder / "temporary.png").rename(os.fsdecode(latin))
    return [*packable, os.fsdecode(b"caf\xe9.png")], list(unusable)


def _damage(file: Path) -> None:
    picture(17, 300, 300).save(file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    file.write_bytes(content)
