"""`data.root` becomes a data set: a folder on disk, or the drawn one."""

from pathlib import Path

from ssl_pkg.config import SYNTHETIC, Data
from ssl_pkg.data.stl10 import STL10, open_stl10
from ssl_pkg.data.synthetic import ensure


def data_root(config: Data) -> Path:
    """The folder that holds stl10_binary/ and a CIFAR-10 folder; draws the synthetic one where it is asked for."""
    return ensure() if config.root == SYNTHETIC else Path(config.root)


def open_dataset(config: Data) -> STL10:
    """STL-10, a stand-in or the drawn set. Raises BadInput if it is not there or damaged."""
    return open_stl10(data_root(config))
