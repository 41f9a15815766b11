"""Images are read as a viewer shows them, or the reason is named."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_photographs import picture, write_hostile
from PIL import Image, PngImagePlugin

from ssl_pkg.data import image_files
from ssl_pkg.data.image_files import Unusable, read_images, share_cropped


def ramp(bits: int) -> np.ndarray:
    return np.linspace(0, 2**bits - 1, 100 * 80).reshape(80, 100).astype(np.uint16)


def write_deep_colours(file: Path, values: np.ndarray) -> None:
    """A PNG with 16 bits per channel, which Pillow can't write. values: (h, w) grey levels."""
    height, width = values.shape
    rows = np.repeat(values.astype(">u2")[..., None], 3, axis=2)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_orientation_depth_and_transparency_are_what_a_viewer_shows(tmp_path: Path) -> None:
    write_hostile(tmp_path)
    names = ["turned.jpg", "sixteen bits.png", "transparent.png"]
    turned, ramp, _ = read_images([tmp_path / name for name in names], 96)
    upright = picture(5).transpose(Image.Transpose.ROTATE_270).crop((0, 15, 90, 105)).resize((96, 96))
    assert np.abs(np.asarray(turned, int) - np.asarray(upright)).mean() < 4
    assert ramp[0].mean() < 10
    assert ramp[-1].mean() > 245
    Image.new("RGBA", (50, 50), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    (clear,) = read_images([tmp_path / "clear.png"], 96)
    assert (clear == 255).all()


def test_images_of_16_bits_keep_their_range_and_those_that_use_12_of_them_are_refused(tmp_path: Path) -> None:
    write: dict[str, Callable[[Path, np.ndarray], object]] = {
        "grey.tiff": lambda file, values: Image.fromarray(values).save(file),
        "compressed.tiff": lambda file, values: Image.fromarray(values).save(file, compression="tiff_lzw"),
        "grey.png": lambda file, values: Image.fromarray(values).save(file),
        "colours.png": write_deep_colours,
        "grey.pgm": lambda file, v: file.write_bytes(b"P5 100 80 65535\n" + v.astype(">u2").tobytes()),
    }
    for name, save in write.items():
        save(tmp_path / name, ramp(16))
        (whole,) = read_images([tmp_path / name], 96)
        assert whole[0].mean() < 10 and whole[-1].mean() > 245, name
        save(tmp_path / name, ramp(12))
        (dark,) = read_images([tmp_path / name], 96)
        assert isinstance(dark, Unusable) and "uses only the lower 12 of its 16 bits" in str(dark), name
    (tmp_path / "twelve.pgm").write_bytes(b"P5 100 80 4095\n" + ramp(12).astype(">u2").tobytes())
    (twelve,) = read_images([tmp_path / "twelve.pgm"], 96)
    assert twelve[0].mean() < 10 and twelve[-1].mean() > 245


def write_tiff(file: Path, values: np.ndarray, sample_format: int, photometric: int = 1) -> None:
    """A TIFF of one strip, uncompressed, whose byte order is that of the values. values: (h, w)."""
    big = values.dtype.byteorder == ">"
    order, (height, width), data = ">" if big else "<", values.shape, values.tobytes()
    bits = 8 * values.dtype.itemsize
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1),
            (278, height), (279, len(data)), (339, sample_format)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    head = (b"MM" if big else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    file.write_bytes(head + entries + bytes(4) + data)


@pytest.mark.parametrize(
    ("kind", "sample_format", "reason"),
    [
        ("<u1", 1, ""), ("<u2", 1, ""), (">u2", 1, ""),
        ("<i1", 2, "signed values"), ("<i2", 2, "signed values"), (">i2", 2, "signed values"),
        ("<i4", 2, "signed values"), (">i4", 2, "signed values"),
        ("<u4", 1, "32 bits"), ("<f4", 3, "32 bits"), (">f4", 3, "32 bits"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("negative", [True, False])
def test_each_kind_of_number_is_read_over_its_whole_range_or_refused(
    kind: str, sample_format: int, reason: str, negative: bool, tmp_path: Path
) -> None:
    dtype = np.dtype(kind)
    low, high = (0.0, 1.0) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = np.linspace(low if negative else 0, high, 100 * 80).reshape(80, 100).astype(dtype)
    write_tiff(tmp_path / "ramp.tiff", values, sample_format)
    (read,) = read_images([tmp_path / "ramp.tiff"], 96)
    if reason:
        assert isinstance(read, Unusable) and reason in str(read), read
        assert "save it with 8 bits" in str(read)
    else:
        assert read[0].mean() < 10 and read[-1].mean() > 245


@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_a_file_whose_zero_is_white_is_inverted(kind: str, tmp_path: Path) -> None:
    values = np.linspace(0, np.iinfo(kind).max, 100 * 80).reshape(80, 100).astype(kind)
    write_tiff(tmp_path / "ramp.tiff", values, 1, photometric=0)
    (read,) = read_images([tmp_path / "ramp.tiff"], 96)
    assert read[0].mean() > 245 and read[-1].mean() < 10


def test_a_large_colour_profile_or_text_does_not_hide_the_pixels_of_a_png(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("note", "a" * 3_000_000, zip=True)
    picture(0).save(tmp_path / "profile.png", icc_profile=np.random.default_rng(0).bytes(3_000_000))
    picture(0).save(tmp_path / "text.png", pnginfo=text)
    picture(0).save(tmp_path / "bomb.png", icc_profile=bytes(70_000_000))
    picture(0).save(tmp_path / "good.png")
    profile, text_read, bomb, good = read_images(
        [tmp_path / f"{name}.png" for name in ("profile", "text", "bomb", "good")], 96
    )
    assert not isinstance(profile, Unusable), profile
    assert not isinstance(text_read, Unusable), text_read
    assert np.array_equal(profile, good)
    assert np.array_equal(text_read, good)
    assert isinstance(bomb, Unusable)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0"])
def test_damaged_exif_data_do_not_hide_good_pixels(exif: bytes, ending: str, tmp_path: Path) -> None:
    picture(0).save(tmp_path / f"damaged.{ending}", exif=b"Exif\0\0" + exif)
    picture(0).save(tmp_path / f"good.{ending}")
    damaged, good = read_images([tmp_path / f"{name}.{ending}" for name in ("damaged", "good")], 96)
    assert not isinstance(damaged, Unusable), damaged
    assert np.array_equal(damaged, good)


def test_the_orientation_counts_although_other_exif_data_are_damaged(tmp_path: Path) -> None:
    data = Image.Exif()
    data[0x0112], data[0x011A] = 6, 72.0  # orientation, horizontal resolution
    damaged = bytearray(data.tobytes())
    damaged[31] = 2  # the resolution's type is text: Pillow can't write it again, without the orientation
    picture(5).save(tmp_path / "turned.jpg", exif=bytes(damaged))
    (turned,) = read_images([tmp_path / "turned.jpg"], 96)
    upright = picture(5).transpose(Image.Transpose.ROTATE_270).crop((0, 15, 90, 105)).resize((96, 96))
    assert np.abs(np.asarray(turned, int) - np.asarray(upright)).mean() < 4


def test_an_image_that_would_be_a_line_on_a_black_square_is_refused(tmp_path: Path) -> None:
    picture(0, 1000, 90).save(tmp_path / "long.png")
    picture(0, 1000, 50).save(tmp_path / "longer.png")
    long, longer = read_images([tmp_path / "long.png", tmp_path / "longer.png"], 96, pad=True)
    assert not isinstance(long, Unusable)
    assert str(longer) == "has 1000 x 50 pixels: padded to a square, it would show nothing"
    assert not any(isinstance(image, Unusable) for image in read_images([tmp_path / "longer.png"], 96))


def test_the_shapes_of_at_most_the_sample_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (100, 50) if number in {2, 4} else (50, 50)).save(file)
    assert share_cropped(files) == 0
    monkeypatch.setattr(image_files, "SAMPLE", 4)
    assert share_cropped(files) == 0.5  # the median of the files 0, 2 and 4
