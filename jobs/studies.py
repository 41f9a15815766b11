"""The study presets: `ssl_pkg/conf/study/NAME.yaml`, whose second line is a comment that says what the study is."""

from pathlib import Path

import ssl_pkg


def studies() -> dict[str, str]:
    """The names of the presets, sorted, and a sentence about each."""
    files = sorted((Path(ssl_pkg.__path__[0]) / "conf" / "study").glob("*.yaml"), key=lambda file: file.stem)
    return {file.stem: file.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ") for file in files}
