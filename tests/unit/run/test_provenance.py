import subprocess
from pathlib import Path

import pytest

from ssl_pkg.run.provenance import commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of one commit, with a package and a folder beside it."""
    for name in ("package/module.py", "package/methods/byol.py", "docs/text.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_an_unchanged_checkout_has_its_commits_name(checkout: Path) -> None:
    git = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    assert commit(checkout / "package") == head


@pytest.mark.parametrize("name", ["package/module.py", "docs/text.md", "package/methods/simsiam.py"])
def test_an_edited_file_and_a_new_file_in_the_package_are_changes(checkout: Path, name: str) -> None:
    (checkout / name).write_text("2")
    assert commit(checkout / "package").endswith("+changes")


def test_a_new_file_outside_the_package_is_no_change(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("2")
    assert not commit(checkout / "package").endswith("+changes")


def test_outside_a_checkout_the_commit_is_that_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(tmp_path) == "unknown"
    monkeypatch.setenv("SSL_STUDY_COMMIT", "0123456789ab")
    assert commit(tmp_path) == "0123456789ab"
