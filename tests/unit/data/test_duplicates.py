import tracemalloc

import numpy as np
from scipy.sparse.csgraph import connected_components

from ssl_pkg.data.duplicates import NEAR, groups_of_copies


def test_groups_are_the_connected_components_of_near_hashes() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**63, 40, dtype=np.uint64)[generator.integers(0, 40, 300)]
    for _ in range(4):  # chains of near hashes, whose ends are far from each other
        hashes ^= np.uint64(1) << generator.integers(0, 64, 300, dtype=np.uint64)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= NEAR
    count, expected = connected_components(near, directed=False)
    assert 30 < count < 250
    assert np.array_equal(groups_of_copies(hashes), expected)


def test_many_equal_images_need_little_memory() -> None:
    tracemalloc.start()
    groups = groups_of_copies(np.zeros(3000, np.uint64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (groups == 0).all()
    assert peak < 30e6
