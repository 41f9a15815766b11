"""Opens the out-of-distribution set below `data.root`: CIFAR-10, or other images in STL-10's layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_pkg.data.cifar10 import OutOfDistribution, open_cifar10
from ssl_pkg.data.names import listed
from ssl_pkg.data.stl10 import read_classes, read_labelled
from ssl_pkg.errors import BadInput
from ssl_pkg.layout import CLASS_NAMES, OOD, STL10, has_ood
from ssl_pkg.run.manifest import STL10_NAME, identify


def open_ood(root: Path, classes: tuple[str, ...]) -> OutOfDistribution | None:
    """The set, with labels that are indices into `classes`, the model's class names; None if there is no set.

    Raises BadInput if the set is damaged or has none of the classes.
    """
    if not has_ood(root):
        return None
    return _open_packed(root, classes) if (root / OOD).is_dir() else open_cifar10(root, classes)


def _open_packed(root: Path, classes: tuple[str, ...]) -> OutOfDistribution:
    """The test split of the packed folder `root`/ood, without the images of classes that the model does not know."""
    folder = root / OOD / STL10
    names = read_classes(folder / CLASS_NAMES)
    test = read_labelled(folder, "test", names)
    labels = np.array([classes.index(name) if name in classes else -1 for name in names])[test.labels]
    known = np.flatnonzero(labels >= 0)
    if len(known) == 0:
        raise BadInput(
            f"{folder} has no image of a class that the model knows ({listed(classes)}): use the same names in its "
            f"class_names.txt, or remove {root / OOD}"
        )
    files = [f"{OOD}/{STL10}/{name}" for name in ("test_X.bin", "test_y.bin", CLASS_NAMES)]
    manifest = identify(root, files, STL10_NAME, names)
    shared = tuple(np.unique(labels[known]).tolist())
    return OutOfDistribution(replace(test.subset(known), name="ood", labels=labels[known]), (), shared, manifest)
