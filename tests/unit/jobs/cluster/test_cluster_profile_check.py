"""What `profile --check` says about the Python of the stages, without a cluster."""

import sys
import venv
from pathlib import Path

import pytest

from jobs.cluster.limits import SubmitLimit
from jobs.cluster.profile import PROFILES, Profile, load_profile
from jobs.cluster.profile_check import Findings, _calls_for_studies, _environment, _nodes, check_python


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment without packages."""
    folder = tmp_path_factory.mktemp("bare") / ".venv"
    venv.create(folder, symlinks=True)
    return folder / "bin/python"


def profile(python: Path | str | None, *setup: str) -> Profile:
    return Profile.model_validate({"name": "mine", "cpus": 1, "minutes": 9, "python": str(python), "setup": setup})


def test_a_python_with_all_packages_needs_no_remark() -> None:
    assert check_python(profile(sys.executable)) == Findings()
    assert check_python(Profile(name="mine", cpus=1, minutes=9)) == Findings()  # the Python that submits


def test_a_python_without_torch_is_an_error(bare: Path) -> None:
    found = check_python(profile(bare))
    assert not found.notes
    assert found.errors[0].startswith(f"python: {bare} lacks packages that the stages need (torch, torchvision, numba")
    line = f"`{bare} -m pip install --constraint requirements.lock --editable '.[train,report]'`"
    assert line in found.errors[0]


def test_the_packages_are_only_a_note_if_set_up_lines_can_add_them(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's recipe after `make setup EXTRAS=submit`: the example copied, with the environment that submits."""
    (tmp_path / "mysite.yaml").write_bytes((PROFILES / "example-gpu.yaml").read_bytes())
    (tmp_path / ".venv").symlink_to(bare.parents[1])
    monkeypatch.chdir(tmp_path)
    found = check_python(load_profile("mysite.yaml"))
    assert not found.errors
    assert found.notes[0].startswith("python: .venv/bin/python lacks packages that the stages need (torch, ")
    assert found.notes[0].endswith("unless the `setup` lines add them")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist on this machine: it must exist on the nodes"),
        ("#!/bin/sh\necho 'no libpython' >&2\nexit 127\n", "does not start on this machine (no libpython): it must"),
        ("#!/nowhere/interpreter\n", "does not start on this machine ("),
    ],
)
def test_a_python_that_this_machine_can_not_start_is_a_note(content: str | None, sentence: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if content:
        python.write_text(content, encoding="utf-8")
        python.chmod(0o755)
    found = check_python(profile(python))
    assert not found.errors
    assert found.notes[0].startswith(f"python: {python} {sentence}")


def test_a_sites_message_is_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "low*|120|8|8000|up|idle|none | or not"
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\nprintf '%s\\n' 'Welcome | to | this | cluster' '' '{row}'\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [(node.partition, node.cpus, node.memory_mb) for node in _nodes()] == [("low", 8, 8000)]


def test_the_packages_are_looked_for_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert check_python(profile(sys.executable)) == Findings()


def test_a_container_has_its_own_python(bare: Path) -> None:
    fields = {"name": "mine", "cpus": 1, "minutes": 9, "python": str(bare)}
    fields["container"] = {"backend": "apptainer", "image": "a.sif"}
    assert check_python(Profile.model_validate(fields)) == Findings()


@pytest.mark.parametrize(
    ("export", "start"),
    [
        (None, None),  # no option
        ("ALL", None),
        ("all", None),  # sbatch ignores the case
        ("ALL,NCCL_DEBUG=INFO", None),
        ("NCCL_DEBUG=INFO,ALL", None),
        ("NONE", "export: NONE: jobs get only PATH, "),
        ("NCCL_DEBUG", "export: NCCL_DEBUG: jobs get only these and PATH, "),
        ("ALLOCATOR", "export: ALLOCATOR: jobs get only these and PATH, "),
    ],
)
def test_only_an_export_without_the_whole_environment_is_noted(export: str | None, start: str | None) -> None:
    errors: list[str] = []
    notes: list[str] = []
    fields = {"name": "mine", "cpus": 1, "minutes": 9, "sbatch": {"export": export}}
    _environment(Profile.model_validate(fields), errors, notes)
    assert [note[: len(start or "")] for note in notes] == ([start] if start else [])


def test_a_limit_of_no_job_is_not_a_number_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [SubmitLimit("QOS normal", 0)]
    monkeypatch.setattr("jobs.cluster.profile_check.submit_limits", lambda profile, config: limits)
    found = _calls_for_studies(profile(sys.executable), {})
    assert found == ["QOS normal allows 0 at once: `ssl-study submit` can submit no run"]
