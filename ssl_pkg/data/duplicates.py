"""Finds copies of an image by perceptual hashes (imagehash's phash: the signs of 64 low frequencies) and colours.

phash sees grey images only: without the colours, all images of one colour would be copies of each other.
"""

from typing import Any, Final

import imagehash
import numpy as np
from PIL import Image

from ssl_pkg.data.image_files import Pixels
from ssl_pkg.data.images import Indices

CELLS: Final = 4  # rows and columns of the image whose mean colours are compared
HASH: Final = np.dtype([("bits", np.uint64), ("colours", np.uint8, CELLS * CELLS * 3)])
Hash = tuple[int, Pixels]  # bits and colours
Hashes = np.ndarray[Any, np.dtype[np.void]]  # (n,), of HASH

# Bits of 64, of which 32 are always set, so that distances are even. Another size or JPEG quality changes some bits;
# two unrelated images differ in 32 on average, and in at most six with a probability of about 1e-11.
NEAR: Final = 6
# Root mean square of the differences of the mean colours, 0 to 255. Of 450 photographs of 96 px it was at most 4.6
# after JPEG of quality 10, other sizes and palettes of 64 colours, and 24 in the median after a swap of red and blue.
# One in nine had less than this bound after the swap, because it has hardly any colour.
SAME_COLOURS: Final = 9
BLOCK: Final = 1 << 22  # pairs compared at a time
COLOUR_BLOCK: Final = 1 << 16  # pairs whose colours are compared at a time


def perceptual_hash(pixels: Pixels) -> Hash:
    """The bits and colours, for an entry of HASH, of an image whose side is a multiple of CELLS."""
    bits = np.packbits(imagehash.phash(Image.fromarray(pixels)).hash)
    cell = len(pixels) // CELLS
    colours = pixels.reshape(CELLS, cell, CELLS, cell, 3).mean(axis=(1, 3)).round().astype(np.uint8).ravel()
    return int.from_bytes(bits.tobytes()), colours


def first_near(hashes: Hashes, bank: Hashes) -> Indices:
    """For each hash (n,) the index of the first entry of the bank (m,) that is near, or -1.

    Near hashes differ in at most NEAR bits, and their colours by at most SAME_COLOURS.
    """
    found = np.full(len(hashes), -1, np.int64)
    size = max(1, BLOCK // max(1, len(bank)))
    for start in range(0, len(hashes) if len(bank) else 0, size):
        near = _near(hashes[start : start + size], bank)
        found[start : start + size] = np.where(near.any(axis=1), near.argmax(axis=1), -1)
    return found


def groups_of_copies(hashes: Hashes) -> Indices:
    """The group (n,) of each image, from 0. Copies are in one group, and so are copies of copies.

    A group grows by the copies of its newest members, because all pairs of copies would not fit into memory.
    """
    groups = np.full(len(hashes), -1, np.int64)
    rest = np.arange(len(hashes))  # images without a group
    number = 0
    while len(rest):
        newest, rest = rest[:1], rest[1:]
        while len(newest):
            groups[newest] = number
            near = first_near(hashes[rest], hashes[newest]) >= 0
            newest, rest = rest[near], rest[~near]
        number += 1
    return groups


def _near(hashes: Hashes, bank: Hashes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    near: np.ndarray[Any, np.dtype[np.bool_]] = np.bitwise_count(hashes["bits"][:, None] ^ bank["bits"][None]) <= NEAR
    pairs = np.flatnonzero(near)
    for start in range(0, len(pairs), COLOUR_BLOCK):
        chosen = pairs[start : start + COLOUR_BLOCK]
        one, other = np.divmod(chosen, len(bank))
        difference = hashes["colours"][one].astype(np.float32) - bank["colours"][other]
        near.flat[chosen] = np.sqrt((difference**2).mean(axis=1)) <= SAME_COLOURS
    return near
