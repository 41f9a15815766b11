"""Opens the data set that `data.root` names. `python -m ssl_pkg.data.dataset ROOT` checks a folder."""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train")

import sys
from pathlib import Path

from ssl_pkg.config.schema import SYNTHETIC, DataConfig
from ssl_pkg.data.ood import open_ood
from ssl_pkg.data.stl10 import STL10, open_stl10
from ssl_pkg.data.synthetic import generate_cached
from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput, reading
from ssl_pkg.messages.streams import prepare_streams


def data_root(config: DataConfig) -> Path:
    """The folder that holds stl10_binary/ and perhaps an OOD set; generates the synthetic set on first use."""
    return generate_cached() if config.root == SYNTHETIC else Path(config.root)


def open_dataset(config: DataConfig) -> STL10:
    """Opens STL-10, a stand-in or the synthetic set. Raises BadInput if the set is missing or damaged."""
    return open_stl10(data_root(config))


def main(arguments: list[str]) -> int:
    """Prints one line that says whether a study can run on the images in ROOT; returns the exit status."""
    if len(arguments) != 1:
        print(
            "usage: python -m ssl_pkg.data.dataset ROOT, where ROOT is the folder that holds stl10_binary/",
            file=sys.stderr,
        )
        return BAD_INPUT
    root = Path(arguments[0])
    try:
        with reading(root):
            stl10 = open_stl10(root)
            ood = open_ood(root, stl10.classes)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(f"{stl10.manifest['name']} and {ood.manifest['name'] if ood else 'no out-of-distribution set'}")
    return COMPLETE


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
