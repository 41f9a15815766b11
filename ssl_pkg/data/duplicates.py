"""Finds copies of an image by perceptual hashes (imagehash's phash: the signs of 64 low frequencies)."""

from typing import Any, Final

import imagehash
import numpy as np
from PIL import Image

from ssl_pkg.data.image_files import Pixels
from ssl_pkg.data.images import Indices

Hashes = np.ndarray[Any, np.dtype[np.uint64]]  # (n,)

# Bits of 64, of which 32 are always set, so that distances are even. Another size or JPEG quality changes some bits;
# two unrelated images differ in 32 on average, and in at most six with a probability of about 1e-11.
NEAR: Final = 6
BLOCK: Final = 1 << 22  # pairs compared at a time


def perceptual_hash(pixels: Pixels) -> np.uint64:
    """The 64 bits of the image's hash."""
    bits = np.packbits(imagehash.phash(Image.fromarray(pixels)).hash)
    return np.uint64(int.from_bytes(bits.tobytes()))


def first_near(hashes: Hashes, bank: Hashes) -> Indices:
    """For each hash (n,) the index of the first entry of the bank (m,) that differs in at most NEAR bits, or -1."""
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
    near: np.ndarray[Any, np.dtype[np.bool_]] = np.bitwise_count(hashes[:, None] ^ bank[None]) <= NEAR
    return near
