"""The commands `study` and `submit` of `ssl-study`: they run the missing runs of a study here or on a cluster.

Each command imports what it needs, so that a cluster's login node needs no more than it uses.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_pkg.errors import COMPLETE
from ssl_pkg.extras import require
from ssl_pkg.messages.wrapping import say

if TYPE_CHECKING:
    from jobs.plan.graph import Job
    from ssl_pkg.config.schema import Config


def study(options: argparse.Namespace, overrides: list[str], resume_command: str) -> int:
    """Runs the missing runs on this machine. Returns the exit status. resume_command: for the message at the end."""
    require("train", "report")
    from jobs.local.estimate import TimeLeft
    from jobs.local.slots import slots
    from jobs.local.study import run_study
    from jobs.plan.estimate import workloads
    from jobs.plan.settings import check_gpus
    from ssl_pkg.config.schema import SYNTHETIC
    from ssl_pkg.hardware.machine import gpu_out_of_reach, refuse_gpu_out_of_reach

    config, jobs = _planned(options, overrides)
    available = slots(
        config.threads or config.study.cpus, use_gpus=config.device != "cpu", runs_per_gpu=config.study.runs_per_gpu
    )
    if any(slot.gpu for slot in available):
        check_gpus()
    elif config.device == "auto" and config.budget.name == "demo" and (reason := gpu_out_of_reach()):
        say(f"{reason}. The demo uses the CPU, because that takes only minutes.")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the stages, which would refuse the CPU
    elif config.device == "auto":
        refuse_gpu_out_of_reach()
    _say_passes(config, jobs)
    synthetic = config.data.root == SYNTHETIC
    left = TimeLeft(jobs, len(available), workloads(jobs, config.data.root))
    folder = options.runs / config.study.name
    return run_study(jobs, folder, available, resume_command=resume_command, synthetic=synthetic, estimate=left)


def _planned(
    options: argparse.Namespace, overrides: list[str], processes: int = 1, *, absolute: bool = False
) -> "tuple[Config, list[Job]]":
    """The study's configuration and plan, checked.

    processes: of a pretraining. absolute: whether the runs get the absolute path of the images.
    """
    from jobs.plan.batch_sizes import check_batch_sizes
    from jobs.plan.settings import check_data, configure, plan_study, with_data_root
    from ssl_pkg.config.schema import SYNTHETIC

    config = configure(options.study, data=options.data, seeds=options.seeds, overrides=overrides, runs=options.runs)
    check_data(config.data.root)
    if absolute and config.data.root != SYNTHETIC:
        config = with_data_root(config, str(Path(config.data.root).absolute()))
    jobs = plan_study(config, runs=options.runs, reports=options.reports, overrides=overrides)
    check_batch_sizes(jobs, config.data.root, processes)
    return config, jobs


def _say_passes(config: "Config", jobs: "list[Job]") -> None:
    from jobs.plan.batch_sizes import repeated_passes

    for sentence in repeated_passes(jobs, config.data.root):
        say(sentence)


def submit(options: argparse.Namespace, overrides: list[str], resume_command: str) -> int:
    """Submits the missing runs to a cluster. Returns the exit status. resume_command: for the message at the end."""
    from jobs.cluster.profile import LOCAL, load_profile
    from jobs.programs import Programs

    if options.dry_run:
        return _dry_run(options, overrides)
    profile = load_profile(options.cluster)
    if profile.name == LOCAL:
        return study(options, overrides, resume_command)
    require("submit")
    from jobs.cluster.submit import Submission
    from jobs.submit_rounds import submit_rounds

    options.runs, options.reports = options.runs.absolute(), options.reports.absolute()
    # absolute paths, because a job may start in another folder, or mount them into a container
    config, jobs = _planned(options, overrides, profile.nodes * profile.processes, absolute=True)
    _say_passes(config, jobs)
    folder = options.runs / config.study.name
    submission = Submission(jobs, folder, profile, data_root=config.data.root, programs=Programs())
    return submit_rounds(submission, jobs, folder, profile.name, wait=options.wait, resume_command=resume_command)


def _dry_run(options: argparse.Namespace, overrides: list[str]) -> int:
    require("submit")
    from jobs.cluster.dry_run import every_profile, print_dry_run
    from jobs.cluster.profile import load_profile
    from jobs.plan.batch_sizes import check_batch_sizes
    from jobs.plan.estimate import images_of
    from jobs.plan.settings import plan_published
    from ssl_pkg.config.overrides import split_literals

    profile = load_profile(options.cluster) if options.cluster else None
    processes = profile.nodes * profile.processes if profile else 1
    if options.study == "stl10" and options.data is None and "data.root" not in split_literals(overrides)[0]:
        jobs = plan_published(
            options.study, seeds=options.seeds, overrides=overrides, runs=options.runs, reports=options.reports
        )
        check_batch_sizes(jobs, None, processes)
        images = images_of(None)
        say("Without --data, the sizes of STL-10 as published are assumed.")
    else:
        config, jobs = _planned(options, overrides, processes)
        _say_passes(config, jobs)
        images = images_of(config.data.root)
    print_dry_run(jobs, options.runs / options.study, [profile] if profile else every_profile(), images)
    return COMPLETE
