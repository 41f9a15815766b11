from pathlib import Path

import pytest

from jobs import __main__
from ssl_pkg.errors import INTERRUPTED


@pytest.mark.parametrize("dry", [True, False])
def test_an_interrupted_submission_names_the_queue_unless_it_was_dry(
    tmp_path: Path, dry: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(__main__._STARTING, "submit", interrupted)
    line = ["submit", "demo", "--cluster", "testbed", "--runs", str(tmp_path), *["--dry-run"] * dry]
    assert __main__.main(line) == INTERRUPTED
    printed = capsys.readouterr().err
    assert ("Submitted jobs stay in the queue" in printed) is not dry
    assert (printed == "interrupted\n") is dry
