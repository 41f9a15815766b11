import colorsys
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile_photographs import picture
from PIL import Image
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_sample_images

from ssl_pkg.data.duplicates import HASH, NEAR, SAME_COLOURS, Hash, first_near, groups_of_copies, perceptual_hash
from ssl_pkg.data.pack import pack
from ssl_pkg.data.stl10 import open_stl10


def test_groups_are_the_connected_components_of_near_hashes() -> None:
    generator = np.random.default_rng(0)
    hashes = np.zeros(300, HASH)
    hashes["bits"] = generator.integers(0, 2**63, 40, dtype=np.uint64)[generator.integers(0, 40, 300)]
    for _ in range(4):  # chains of near hashes, whose ends are far from each other
        hashes["bits"] ^= np.uint64(1) << generator.integers(0, 64, 300, dtype=np.uint64)
    hashes["colours"] = generator.integers(0, 9, (300, 1)) * 4 + generator.integers(0, 9, (300, 48))
    near = np.bitwise_count(hashes["bits"][:, None] ^ hashes["bits"][None]) <= NEAR
    same = connected_components(near, directed=False)[0]
    colours = hashes["colours"].astype(float)
    near &= np.sqrt(((colours[:, None] - colours[None]) ** 2).mean(axis=2)) <= SAME_COLOURS
    count, expected = connected_components(near, directed=False)
    assert 30 < same < count < 250
    assert np.array_equal(groups_of_copies(hashes), expected)


def test_many_equal_images_need_little_memory() -> None:
    tracemalloc.start()
    groups = groups_of_copies(np.zeros(3000, HASH))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (groups == 0).all()
    assert peak < 30e6


def photographs() -> list[Image.Image]:
    """Parts of the two photographs that scikit-learn has."""
    generator = np.random.default_rng(0)
    found = []
    for photograph in map(Image.fromarray, load_sample_images().images):
        for left, top in generator.integers(0, (400, 250), (12, 2)).tolist():
            found.append(photograph.crop((left, top, left + 200, top + 160)))
    return found


def hashed(image: Image.Image) -> Hash:
    return perceptual_hash(np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


def test_copies_are_found_and_recoloured_images_are_not() -> None:
    drawn = [*(picture(seed, 300, 220) for seed in range(8)), Image.new("RGB", (90, 80), (200, 40, 90))]
    for image in [*photographs(), *drawn]:
        bank = np.array([hashed(image)], HASH)
        smaller = image.resize((image.width // 2, image.height // 3), Image.Resampling.LANCZOS)
        copies = [jpeg(image, 20), jpeg(image, 60), smaller, jpeg(smaller, 50), image.convert("CMYK")]
        assert (first_near(np.array([hashed(copy) for copy in copies], HASH), bank) == 0).all()
        red, green, blue = image.split()
        recoloured = [Image.merge("RGB", bands) for bands in ((blue, green, red), (green, blue, red))]
        assert (first_near(np.array([hashed(copy) for copy in recoloured], HASH), bank) == -1).all()


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_swatches_can_be_packed(ending: str, tmp_path: Path) -> None:
    for hue in range(30):
        folder = tmp_path / "photos" / f"hue{hue // 10}"
        folder.mkdir(parents=True, exist_ok=True)
        colour = tuple(round(255 * value) for value in colorsys.hsv_to_rgb(hue / 30, 0.9, 0.8))
        Image.new("RGB", (100, 80), colour).save(folder / f"{hue}.{ending}")
    assert not any(entry.reason for entry in pack(tmp_path / "photos", tmp_path / "data").photographs)
    assert (len(open_stl10(tmp_path / "data").train), len(open_stl10(tmp_path / "data").test)) == (24, 6)
