"""Submitting, cancelling and resuming stub stages on a real SLURM, with and without accounting."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import LONG_ONLY, OnCluster, job_of, slurm, until

from jobs.__main__ import main
from jobs.cluster.batches import read_batches
from jobs.ledger import State
from slurm.testbed import LocalCluster
from ssl_pkg.errors import BadInput

# In the short form the tests of submission and of --wait run with accounting, these without.
BEDS = [pytest.param({}, id=""), pytest.param({"accounting": True}, id="accounting", marks=LONG_ONLY)]
pytestmark = pytest.mark.parametrize("bed", BEDS, indirect=True)
Make = Callable[..., OnCluster]


def test_a_study_completes_in_the_order_of_its_graph_and_is_submitted_once(study: Make) -> None:
    small = study(seeds=(0, 1, 2))
    first = small.submit()
    assert sorted(first.submitted) == sorted(job.name for job in small.jobs)
    again = small.submit()
    assert (again.submitted, sorted(again.queued + again.complete)) == ([], sorted(first.submitted))
    small.until_complete()
    assert (small.root / "reports/small/report.pdf").exists()
    last = small.submit()
    assert (last.submitted, last.queued, len(last.complete)) == ([], [], len(small.jobs))
    assert not slurm("squeue", "-h").strip()


def test_seeds_are_arrays_with_readable_names(study: Make) -> None:
    small = study(seeds=(0, 1), wait=5.0)
    small.submit()
    named = slurm("squeue", "-h", "-o", "%j").split()
    assert {"pretrain-simclr.small", "ood-simclr-probe.small", "report.small"} <= set(named)
    arrays = {batch.names: batch.after for batch in read_batches(small.folder)}
    assert arrays[("pretrain-simclr-s0", "pretrain-simclr-s1")] == ""
    assert arrays[("probe-simclr-s0", "probe-simclr-s1")].startswith("aftercorr:")


def test_a_sweep_is_submitted_as_arrays_and_its_runs_wait_for_their_own_parents(study: Make) -> None:
    small = study(seeds=(0, 1), sweep=("method.temperature=0.1,0.5", "probe.l2=1,2"))
    small.submit()
    batches = {batch.names: batch for batch in read_batches(small.folder)}
    (pretrained,) = (names for names in batches if "pretrain-simclr-s0-temperature=0.5" in names)
    assert len(pretrained) == 4
    number = batches[pretrained].number
    for task, parent in enumerate(pretrained):
        name = parent.replace("pretrain", "probe")
        (probes,) = (names for names in batches if f"{name},l2=1" in names)
        assert probes == (f"{name},l2=1", f"{name},l2=2")
        assert batches[probes].after == f"afterok:{number}_{task}"
    (finetuned,) = (names for names in batches if "finetune-simclr-s0-temperature=0.5" in names)
    assert batches[finetuned].after == f"aftercorr:{number}"
    assert [name.replace("finetune", "pretrain") for name in finetuned] == list(pretrained)


def test_two_concurrent_submits_submit_each_run_once(study: Make) -> None:
    small = study(seeds=(0, 1))
    here, root = str(Path(__file__).parent), str(small.root)
    code = (
        f"import sys; sys.path.insert(0, {here!r}); from pathlib import Path; from studies import OnCluster;"
        f"print(len(OnCluster(Path({root!r}), seeds=(0, 1)).submit().submitted))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(int(one.communicate(timeout=120)[0]) for one in both) == [0, len(small.jobs)]
    small.until_complete()
    events = [tuple(json.loads(line)) for line in (small.root / "EVENTS").read_text().splitlines()]
    assert len(events) == len(set(events))


def test_a_cancelled_run_stays_cancelled_until_it_is_submitted_again_and_resumes(study: Make) -> None:
    small = study(wait=20.0)
    small.submit()
    name = "pretrain-simclr-s0"
    until(lambda: small.states()[name] is State.RUNNING and (small.folder / name / "status").exists())
    slurm("scancel", job_of(small.rows()[name]))
    until(lambda: small.states()[name] is State.CANCELLED, 30, lambda: str(small.rows()[name]))
    # SLURM sends SIGTERM to the stage and to the batch script, whose SIGUSR2 for the stage can arrive first
    assert (small.folder / name / "checkpoint").read_text() in ("SIGTERM", "SIGUSR2")
    until(lambda: small.states()["probe-simclr-s0"] is State.BLOCKED)
    assert small.rows()["probe-simclr-s0"].note == f"needs {name}"
    assert "\n<<< cancelled" in small.log(name)
    submitted = small.submit().submitted
    assert name in submitted and "probe-simclr-s0" in submitted and "finetune-random-s0" not in submitted
    until((small.folder / name / "result.json").exists)
    assert json.loads((small.folder / name / "child.json").read_text())["resumed"]


def test_a_run_that_was_cancelled_before_it_began_is_submitted_again(study: Make) -> None:
    small = study(wait=3.0)
    small.submit()
    name = "probe-simclr-s0"
    slurm("scancel", job_of(small.rows()[name]))
    until(lambda: small.states()[name] is State.CANCELLED)
    assert name in small.submit().submitted
    small.until_complete()


def test_children_of_a_failed_run_are_blocked_and_complete_when_the_cause_is_fixed(study: Make) -> None:
    small = study()
    cause = small.root / "FAIL-pretrain-simclr-s0"
    cause.parent.mkdir(exist_ok=True)
    cause.touch()
    small.submit()
    until(lambda: small.states()["pretrain-simclr-s0"] is State.FAILED)
    until(lambda: small.states()["ood-supervised-s0"] is State.COMPLETE)
    rows = small.rows()
    assert rows["pretrain-simclr-s0"].note == "the cause of it all"
    children = [job.name for job in small.jobs if "simclr" in job.name and job.stage != "pretrain"]
    assert {rows[name].state for name in children} == {State.BLOCKED}
    until(lambda: small.states()["report"] is State.COMPLETE, 90, lambda: str(small.rows()))  # of what there is
    assert {row.state for name, row in small.rows().items() if name in children} == {State.BLOCKED}
    assert not slurm("squeue", "-h", "-o", "%A").split()
    cause.unlink()
    assert sorted(small.submit().submitted) == sorted(["pretrain-simclr-s0", *children, "report"])
    small.until_complete()


@pytest.mark.parametrize("lost", ["ood-simclr-probe-s1", "finetune-simclr-s1"])
def test_a_single_missing_run_is_submitted_with_the_report_which_waits_for_it(study: Make, lost: str) -> None:
    small = study(seeds=(0, 1))
    small.submit()
    small.until_complete()
    subprocess.run(["rm", "-r", small.folder / lost], check=True)
    assert small.submit().submitted == [lost, "report"]
    small.until_complete()
    assert small.jobs[-1].complete, "the report is newer than all results"


def test_runs_that_slurm_refuses_are_not_shown_as_pending(study: Make) -> None:
    small = study(partition="nowhere")
    with pytest.raises(BadInput, match="invalid partition"):
        small.submit()
    assert small.states() == {}


def test_cancel_cancels_all_jobs(study: Make, capsys: pytest.CaptureFixture[str]) -> None:
    small = study(wait=20.0)
    small.submit()
    until(lambda: State.RUNNING in small.states().values())
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    assert f"{len(small.jobs)} jobs of study small are cancelled" in capsys.readouterr().out
    until(lambda: set(small.states().values()) == {State.CANCELLED}, 60, lambda: str(small.states()))


def test_status_works_when_the_controller_does_not_respond(
    bed: LocalCluster, study: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    small = study(wait=30.0)
    small.submit()
    until((small.folder / "pretrain-simclr-s0" / "status").exists)
    time.sleep(
        8
    )  # otherwise the controller, which saves its state at intervals, would start jobs twice and drain the nodes
    bed.kill("slurmctld")
    try:
        assert main(["status", "small", "--runs", str(small.root)]) == 0
        printed = capsys.readouterr().out
        assert "SLURM does not respond" in printed and "submit the study again" in printed
        assert re.search(r"^pretrain-simclr-s0 +running ", printed, re.MULTILINE)
    finally:
        bed.start_controller()
    until(lambda: subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0)
    until((small.folder / "ood-supervised-s0" / "result.json").exists, 180, lambda: str(small.rows()))
