from pathlib import Path
from types import SimpleNamespace

from jobs.ledger import log_path
from jobs.local.runner import Runner, _Running
from jobs.plan.graph import plan
from jobs.programs import Programs
from jobs.status.display import make_display
from ssl_pkg.config import Study


def test_a_job_that_ends_before_its_process_has_made_a_log_is_noted_there(tmp_path: Path) -> None:
    """A signal in a job's first moments ends submitit's process before it has run anything of ours."""
    study = Study(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    runner = Runner(jobs, tmp_path / "small", [], make_display(), Programs())
    handle = SimpleNamespace(paths=SimpleNamespace(result_pickle=tmp_path / "none"), stderr=lambda: None)
    assert runner._exit_status(_Running(jobs[0], None, handle)) is None  # type: ignore[arg-type]
    assert log_path(tmp_path / "small", jobs[0].name).read_text() == "the process that waited for the run was killed\n"
