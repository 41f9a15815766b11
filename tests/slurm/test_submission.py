"""What sites change about sbatch: wrappers with other output, limits on jobs and arrays, rules about memory."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from studies import OnCluster, slurm

import jobs.cluster.sbatch
from jobs.__main__ import main
from jobs.cluster.batches import read_batches
from jobs.cluster.profile_check import check_profile
from jobs.ledger import State
from jobs.local.slots import Slot
from jobs.local.study import run_study
from jobs.status.display import no_estimate
from ssl_pkg.errors import BadInput

BED = {"accounting": True, "limits": True, "largest_array": 4}
Make = Callable[..., OnCluster]


def in_queue() -> list[str]:
    return slurm("squeue", "-h", "-r", "-o", "%i").split()


WRAPPERS = {
    "without --parsable": 'exec "$SITES" "${@:2}"',
    "a banner": 'echo "This is job 42 of your quota"; exec "$SITES" "$@"',
    "the number of another job": 'echo "batch job $OTHER is yours, too"; exec "$SITES" "$@"',
    "with the cluster": '"$SITES" "$@" | sed "s/$/;testbed/"',
    "on stderr": 'exec "$SITES" "$@" >&2',
    "filtered": '"$SITES" "$@" >/dev/null; echo "99999999999 hours left, see 1.5 and -3"',
    "a failure afterwards": '"$SITES" "$@" >/dev/null; exit 1',
    "a comment of the site's": 'exec "$SITES" --comment=project17 "$@"',
    "a comment, and nothing printed": '"$SITES" --comment=project17 "$@" >/dev/null',
    "without comment and output": 'sed -i "/--comment/d;/--output/d;/--error/d" "$2"; exec "$SITES" -o /dev/null "$@"',
    "twice": '"$SITES" "$@" >/dev/null; exec "$SITES" "$@"',
    "a copy of the script": 'cp "$2" "$2.copy"; exec "$SITES" "$2.copy"',
}


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("text", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_each_run_has_one_job_whatever_sbatch_prints(
    study: Make, wrapper: Callable[[str], None], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = slurm("sbatch", "--parsable", "--hold", "--wrap=true").strip()
    monkeypatch.setenv("OTHER", other)
    wrapper(text)
    small = study(seeds=(0, 1))
    small.jobs = small.jobs[:5]
    assert len(small.submit().submitted) == 5
    ours = sorted(set(in_queue()) - {other})
    assert len(ours) == 5
    assert sorted(row.job or "" for row in small.rows().values()) == ours
    assert (small.submit().submitted, sorted(set(in_queue()) - {other})) == ([], ours)
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    assert in_queue() == [other]


def test_a_study_behind_a_wrapper_completes(study: Make, wrapper: Callable[[str], None]) -> None:
    wrapper('echo "This is job 42 of your quota"; "$SITES" "$@" | sed "s/$/;testbed/" >&2')
    small = study(seeds=(0, 1))
    small.jobs = [job for job in small.jobs if job.name.startswith(("finetune-random", "ood-supervised"))]
    assert len(small.submit().submitted) == 4
    small.until_complete()


def test_a_wrapper_that_submits_nothing_is_a_refusal_and_leaves_no_batch(
    study: Make, wrapper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.cluster.sbatch, "LISTING_SECONDS", 0.5)
    wrapper("echo Contact help@site for an account >&2; echo Submitted batch job 12345678")
    small = study()
    with pytest.raises(
        BadInput, match=r"SLURM refuses finetune-random-.*lists no such job; sbatch printed: Contact help@site"
    ):
        small.submit()
    assert (list((small.folder / ".jobs/slurm").iterdir()), small.states()) == ([], {})
    wrapper("echo Contact help@site for an account >&2; echo sbatch: error: no account >&2; exit 1")
    with pytest.raises(BadInput, match=r"SLURM refuses finetune-random-.*error: no account"):
        small.submit()


@pytest.mark.usefixtures("waiting")
def test_arrays_have_at_most_the_clusters_size_and_children_wait_for_their_own_parents(study: Make) -> None:
    small = study(seeds=tuple(range(6)))
    assert len(small.submit().submitted) == len(small.jobs)
    batches = read_batches(small.folder)
    assert max(len(batch.names) for batch in batches) == BED["largest_array"]
    run_of = {f"{batch.number}_{i}": name for batch in batches for i, name in enumerate(batch.names)}
    run_of |= {batch.number or "": batch.names[0] for batch in batches if len(batch.names) == 1}
    parents = {job.name: set(job.parents) for job in small.jobs}
    pairs = 0
    for batch in batches:
        kind, _, ids = batch.after.partition(":")
        for index, name in enumerate(batch.names):
            if kind == "aftercorr":
                pairs += 1
                assert run_of[f"{ids}_{index}"] in parents[name]
            elif kind == "afterok" and name != "report":
                assert {run_of[job] for job in ids.split(":")} <= parents[name]
            else:
                assert name == "report" or not parents[name]
    assert pairs > len(small.jobs) / 2 and len(in_queue()) == len(small.jobs)


@pytest.mark.usefixtures("waiting")
def test_runs_beyond_a_limit_are_shown_as_not_submitted_and_submitted_by_the_next_call(
    study: Make, limit: Callable[[int], object]
) -> None:
    limit(6)
    small = study(seeds=(0, 1, 2, 3))
    first = small.submit()
    assert (len(first.submitted), len(in_queue()), first.limit) == (6, 6, "QOS normal allows 6 at once")
    assert sorted(first.submitted + first.unsubmitted) == sorted(job.name for job in small.jobs)
    assert {row.note for name, row in small.rows().items() if name in first.unsubmitted} == {"not submitted"}
    assert set(small.states().values()) == {State.PENDING}
    again = small.submit()
    assert (again.submitted, again.unsubmitted, sorted(again.queued)) == (
        [],
        first.unsubmitted,
        sorted(first.submitted),
    )
    limit(8)
    assert len(set(small.submit().submitted) & set(first.unsubmitted)) == 2 and len(in_queue()) == 8
    limit(-1)
    assert small.submit().unsubmitted == []
    assert len(in_queue()) == len(small.jobs)


def test_a_refusal_for_another_reason_does_not_count_as_a_limit(study: Make) -> None:
    slurm("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxWall=1", "Flags=DenyOnLimit")
    try:
        with pytest.raises(BadInput, match=r"SLURM refuses finetune-random-.*MaxWallDuration"):
            study(seeds=(0, 1)).submit()
        assert in_queue() == []
    finally:
        slurm("sacctmgr", "-i", "modify", "qos", "normal", "set", "MaxWall=-1", "Flags=-1")


def asked(folder: Path, **more: object) -> str:
    file = folder / "bed.yaml"
    file.write_text(yaml.safe_dump({"partition": "low", "cpus": 1, "minutes": 10, **more}))
    return str(file)


@pytest.mark.usefixtures("waiting", "study")
def test_a_submit_that_reaches_a_limit_says_so_and_ends_with_75(
    tmp_path: Path, limit: Callable[[int], object], capsys: pytest.CaptureFixture[str]
) -> None:
    limit(3)
    places = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    assert main(["submit", "demo", "--cluster", asked(tmp_path), *places]) == 75
    printed = capsys.readouterr().out
    assert re.search(
        r"^submitted 3 of \d\d jobs; QOS normal allows 3 at once; run the same command again", printed, re.M
    )
    assert main(["profile", asked(tmp_path), "--check"]) == 0
    printed = capsys.readouterr().out
    (size, calls), *_ = re.findall(r"QOS normal allows 3 at once: .*demo \((\d+) jobs\) needs (\d+)", printed)
    assert (
        int(calls) == -(-int(size) // 3)
        and "- you have reached your job limit (QOSMaxSubmitJobPerUserLimit)" in printed
    )


@pytest.mark.usefixtures("study", "stub_programs")
def test_wait_submits_the_rest(
    tmp_path: Path, limit: Callable[[int], object], capsys: pytest.CaptureFixture[str]
) -> None:
    limit(3)
    line = ["submit", "demo", "--cluster", asked(tmp_path), "--wait", "study.methods=[supervised]"]
    assert main([*line, "--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]) == 0
    printed = capsys.readouterr().out
    assert "QOS normal allows 3 at once; the rest is submitted when these have ended" in printed
    assert (tmp_path / "reports/demo/report.pdf").exists()


@pytest.mark.usefixtures("study", "stub_programs")
def test_wait_submits_runs_that_do_not_need_a_failed_one_and_names_the_others(
    tmp_path: Path, limit: Callable[[int], object], capsys: pytest.CaptureFixture[str]
) -> None:
    limit(3)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "FAIL-finetune-random-s0").touch()
    line = ["submit", "demo", "--cluster", asked(tmp_path), "--wait", "study.methods=[supervised]"]
    assert main([*line, "--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^\d runs? w\w+ not submitted, because \w+ needs? finetune-random-s0, which f", printed, re.M)
    assert (tmp_path / "reports/demo/report.pdf").exists()
    complete = {file.parent.name for file in (tmp_path / "runs/demo").glob("*/result.json")}
    assert complete and {each for each in complete if "supervised" in each} == set()
    assert (tmp_path / "runs/demo/logs/finetune-random-s0.log").read_text().count("start 1,") == 1


@pytest.mark.usefixtures("waiting")
def test_memory_is_left_out_if_a_site_forbids_it(study: Make, wrapper: Callable[[str], None]) -> None:
    wrapper(
        'if [[ "$*" = *--mem=* ]] || grep -qs -e --mem= "${@: -1}"; then '
        'echo "sbatch: error: no --mem here" >&2; exit 1; fi'
        '\nexec "$SITES" "$@"'
    )
    forbidden = study(memory={"per_node": 0.5})
    assert check_profile(forbidden.profile).notes[0].startswith("partition low is down: `ssl-study submit` works, but")
    assert check_profile(forbidden.profile).errors == ["sbatch refuses: sbatch: error: no --mem here"]
    with pytest.raises(BadInput, match="no --mem here"):
        forbidden.submit()
    for memory in (None, {"per_cpu": 0.5}):
        small = study(memory=memory)
        small.jobs = small.jobs[:1]
        assert check_profile(small.profile).errors == []
        assert len(small.submit().submitted) == 1
        shown = slurm("scontrol", "show", "job", in_queue()[0])
        assert ("MinMemoryCPU=512M" in shown) is (memory is not None)
        assert main(["cancel", "small", "--runs", str(small.root)]) == 0


@pytest.mark.usefixtures("waiting")
def test_a_study_on_this_machine_asks_the_cluster_to_which_it_was_submitted(study: Make, tmp_path: Path) -> None:
    small = study()
    small.submit()
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("SLURM_CONF", str(tmp_path / "elsewhere.conf"))
        with pytest.raises(BadInput, match=r"in a cluster's queue .*submitted to test"):
            run_study(small.jobs, small.folder, [Slot(1)], resume_command="", estimate=no_estimate)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("filters", ["cut -c1-80", "true"])
def test_no_run_gets_a_second_job_if_squeue_shows_little(
    study: Make, tmp_path: Path, wrapper: Callable[[str], None], filters: str
) -> None:
    wrapper('exec "$SITES" "$@"')
    listed = f'#!/bin/bash\n{shutil.which("squeue")} "$@" | {filters}\n'
    (tmp_path / "bin" / "squeue").write_text(listed)
    (tmp_path / "bin" / "squeue").chmod(0o755)
    small = study(seeds=(0, 1))
    small.jobs = small.jobs[:3]
    assert len(small.submit().submitted) == 3
    assert (small.submit().submitted, {row.state for row in small.rows().values()}) == ([], {State.PENDING})
    (tmp_path / "bin" / "squeue").rename(tmp_path / "squeue")
    assert len(in_queue()) == 3
    (tmp_path / "squeue").rename(tmp_path / "bin" / "squeue")
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    (tmp_path / "bin" / "squeue").unlink()
    assert in_queue() == []


@pytest.mark.usefixtures("waiting")
def test_a_job_that_squeue_does_not_list_is_found_in_the_accounting(
    study: Make, tmp_path: Path, wrapper: Callable[[str], None]
) -> None:
    wrapper('"$SITES" --comment=project17 "$@" >/dev/null')
    shutil.copy("/bin/true", tmp_path / "bin" / "squeue")
    small = study()
    small.jobs = small.jobs[:1]
    assert len(small.submit().submitted) == 1
    (tmp_path / "bin" / "squeue").unlink()
    assert [batch.number for batch in read_batches(small.folder)] == in_queue()


HOSTILE = {
    "SBATCH_ARRAY_INX": "0-7", "SBATCH_CLUSTERS": "nowhere", "SBATCH_COMMENT": "mine", "SBATCH_EXPORT": "NONE",
    "SBATCH_JOB_NAME": "mine", "SBATCH_MEM_PER_CPU": "1T", "SBATCH_NO_REQUEUE": "1", "SBATCH_PARTITION": "nowhere",
    "SBATCH_TIMELIMIT": "1", "SBATCH_WAIT": "1", "SCANCEL_PARTITION": "high", "SCANCEL_STATE": "RUNNING",
    "SINFO_FORMAT": "%n", "SINFO_PARTITION": "high", "SLURM_CLUSTERS": "nowhere", "SLURM_TIME_FORMAT": "relative",
    "SQUEUE_FORMAT": "%n", "SQUEUE_FORMAT2": "name", "SQUEUE_PARTITION": "high", "SQUEUE_STATES": "COMPLETED",
    "SQUEUE_USERS": "nobody", "SACCT_FORMAT": "User",
}  # fmt: skip


@pytest.mark.usefixtures("waiting")
def test_the_users_variables_have_no_effect(study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    small = study(seeds=(0, 1))
    small.jobs = small.jobs[:5]
    with monkeypatch.context() as changed:
        for name, value in HOSTILE.items():
            changed.setenv(name, value)
        assert check_profile(small.profile).errors == []
        assert len(small.submit().submitted) == 5
        rows = small.rows()
        assert small.submit().submitted == []
    assert sorted(row.job or "" for row in rows.values()) == sorted(in_queue())
    shown = slurm("scontrol", "show", "job", in_queue()[0].partition("_")[0])
    assert "Requeue=1" in shown and "TimeLimit=00:10:00" in shown and "Partition=low" in shown
    with monkeypatch.context() as changed:
        for name, value in HOSTILE.items():
            changed.setenv(name, value)
        assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    assert in_queue() == []
