"""The batch script's set-up lines and environment, run by bash as SLURM would."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.cluster.batch_script import (
    CANCEL_FILE,
    SETUP_DONE,
    SIGNAL_HANDLING,
    START_LINE,
    environment_lines,
    script_lines,
    setup_lines,
)


def ran(*setup: str, **given: str) -> "subprocess.CompletedProcess[str]":
    """Runs a job whose stage prints `stage`, its folder, $HERE and the output of the function `answer`."""
    lines = [SIGNAL_HANDLING, *setup_lines(setup), 'echo stage "$PWD" "${HERE:-}" $(answer 2>/dev/null)']
    environment = {"PATH": os.environ["PATH"], **given}
    line = ["bash", "-c", "\n".join(lines)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


FUNCTION = """\
answer() {
  false
  echo 42
}
if true; then
  cd /usr
fi
cat > /dev/null <<END
don't
END
# a comment, isn't it
export HERE="it's \\
here\""""


@pytest.mark.parametrize("first", ["true", "set -e", "set -u", "set -euo pipefail", "shopt -s extglob"])
def test_lines_change_the_folder_export_and_define_functions(first: str) -> None:
    done = ran(first, FUNCTION, "grep nothing /dev/null || true")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "stage /usr it's here 42\n"


@pytest.mark.parametrize("before", ["true", "set -e"])
@pytest.mark.parametrize(
    ("line", "status", "shown"),
    [
        ("false", 1, "false"),
        ("exit 3", 3, "exit 3"),
        ("cd /nowhere\necho reached", 1, "cd /nowhere"),
        ("(exit 7)\n\n\necho reached", 7, "(exit 7)"),
        ("if false; then\n  true\nelse\n  (exit 8)\nfi", 8, "if false; then …"),
        ("source /nowhere.sh", 1, "source /nowhere.sh"),
        ("echo 'open", 2, "echo 'open"),
        ("fi", 2, "fi"),
        ("conda activate nothere", 127, "conda activate nothere"),
    ],
)
def test_the_first_line_that_fails_ends_the_job_and_is_named(before: str, line: str, status: int, shown: str) -> None:
    done = ran(before, line, "echo reached")
    assert done.stdout == ""
    assert f"set-up line 2 failed (status {status}): {shown}" in done.stderr
    assert done.returncode == status


@pytest.mark.parametrize("setup", [("exit 0",), ("IFS=0", "exit 0")])
def test_a_set_up_line_that_ends_the_script_without_an_error_is_named_with_its_status(setup: tuple[str, ...]) -> None:
    done = ran("true", *setup, "echo reached")
    errors = f"set-up line {len(setup) + 1} ended the batch script before the stage began (status 0): exit 0\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", errors)


@pytest.mark.parametrize("separators", [",", "0123456789", "/ "])
def test_a_set_up_line_may_set_ifs(separators: str) -> None:
    done = ran(f"IFS='{separators}'", "true", "(exit 123)")
    assert (done.returncode, done.stderr) == (123, "set-up line 3 failed (status 123): (exit 123)\n")


class Job:
    """A job's whole batch script, run by bash with scripts in place of SLURM's commands, which record their calls."""

    def __init__(self, folder: Path, **commands: str) -> None:
        self.folder, self.batch = folder, folder / "a batch"
        self.batch.mkdir()
        (folder / "calls").touch()
        shown = {"scontrol": '[ "$1" = requeue ] || echo JobState=RUNNING', "scancel": "kill $PPID", "srun": ""}
        for name, body in {**shown, **commands}.items():
            file = folder / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\n{body}\n')
            file.chmod(0o755)

    def start(self, *setup: str, stage: str = "srun stage") -> "subprocess.Popen[str]":
        text = "\n".join([*script_lines(setup, self.batch), stage])
        known = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "HOME": "/home/me"}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["bash", "-c", text], env=known, cwd="/", text=True, stdout=pipe, stderr=pipe, start_new_session=True
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def until_called(self, call: str) -> None:
        end = time.monotonic() + 20
        while call not in self.calls:
            assert time.monotonic() < end, self.calls
            time.sleep(0.02)


def test_the_arguments_of_srun_do_not_depend_on_ifs_and_pythonpath_has_no_relative_entry(tmp_path: Path) -> None:
    job = Job(tmp_path, srun='echo "$PYTHONPATH"')
    python = job.start("IFS=,", "export PYTHONPATH=$HOME/lib::.:lib:$PYTHONPATH:/b", stage="srun $(echo -n a b)")
    printed, errors = python.communicate(timeout=20)
    assert job.calls == ["srun a b"]
    assert printed == f"{START_LINE}1\n{SETUP_DONE}\n/home/me/lib:/b\n"
    assert errors == f"{START_LINE}1\n"


@pytest.mark.slow
def test_a_signal_reaches_only_the_step_of_this_start_and_is_not_repeated_after_its_end(tmp_path: Path) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(75)); "
        f"open('{tmp_path}/calls', 'a').write('ready\\n'); signal.pause()"
    )
    job = Job(tmp_path, srun=f"exec {sys.executable} -c {shlex.quote(code)}")
    started = job.start()
    job.until_called("ready")
    started.send_signal(signal.SIGTERM)
    job.until_called("scontrol requeue 7")
    try:
        end = time.monotonic() + 20
        while (children := _children(started.pid)) != ["sleep"]:  # the batch script waits for the end of the job
            assert time.monotonic() < end, children
            time.sleep(0.1)
    finally:
        os.killpg(started.pid, signal.SIGKILL)  # also its `sleep`
        started.communicate()


def _children(pid: int) -> list[str]:
    line = ["ps", "-o", "comm=", "--ppid", str(pid)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.split()


def test_a_job_that_is_cancelled_while_it_is_requeued_cancels_itself(tmp_path: Path) -> None:
    batch = tmp_path / "a batch"
    job = Job(tmp_path, scontrol=f'[ "$1" != requeue ] && echo JobState=RUNNING || touch "{batch}/{CANCEL_FILE}"')
    started = job.start("kill $$; sleep 5")
    started.communicate(timeout=20)
    assert started.returncode == -signal.SIGTERM
    assert [call.split()[0] for call in job.calls] == ["scontrol", "scontrol", "scancel"]


def test_a_start_after_a_cancellation_ends_at_once(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (job.batch / CANCEL_FILE).touch()
    started = job.start("echo set up")
    printed, errors = started.communicate(timeout=20)
    assert (started.returncode, printed) == (-signal.SIGTERM, f"{START_LINE}1\n")
    assert "the study was cancelled" in errors
    assert job.calls == ["scancel 7"]


def test_a_failure_is_found_although_the_locale_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    done = ran("module() { return 1; }\nmodule load cuda\necho reached", LC_ALL="C")
    assert "set-up line 1 failed (status 1): module load cuda" in done.stderr
    assert "reached" not in done.stdout


def test_the_error_names_a_function_that_only_login_shells_define(tmp_path: Path) -> None:
    conda = tmp_path / "conda"  # the program, which can't activate
    conda.write_text("#!/bin/sh\necho not properly configured >&2\nexit 1\n")
    conda.chmod(0o755)
    errors = ran("conda activate x", PATH=f"{tmp_path}:{os.environ['PATH']}").stderr
    assert "not properly configured" in errors
    assert "conda is only defined in login shells: put a line like “source CONDA/etc/profile.d/conda.sh”" in errors
    missing = ran("echo a && module load x", "true").stderr
    assert "module is only defined in login shells: put a line like “source /etc/profile.d/modules.sh”" in missing
    there = ran("module() { return 1; }\nmodule load x").stderr
    assert there == "set-up line 1 failed (status 1): module load x\n"


def test_an_empty_environment_gets_the_submitters_variables_and_another_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": "/it's/mine", "SECRET": "1", "SLURM_CONF": "/slurm.conf"}
    lines = "\n".join([*environment_lines(known), "env"])

    def found(*given: str) -> dict[str, str]:
        line = ["/usr/bin/env", "-i", *given, "/bin/bash", "-c", lines]
        shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        return dict(entry.split("=", 1) for entry in shown.splitlines())

    empty = found("SLURM_EXPORT_ENV=NONE")
    assert {name: empty.get(name) for name in known} == known | {"SECRET": None}
    assert Path(empty["HOME"]).is_dir() and "SLURM_EXPORT_ENV" not in empty
    own = {"PATH": "/usr/bin:/bin:/own", "PYTHONPATH": "", "HOME": "/home"}
    assert own.items() <= found(*(f"{name}={value}" for name, value in own.items())).items()
