"""The study as a graph of stages: which runs there are, each with its command line, and which must be complete before
which. This machine's runner and SLURM send the same jobs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.ledger import REPORT, effective
from jobs.plan.sweeps import label, reads, sweep
from ssl_pkg.config import RANDOM, Study
from ssl_pkg.overrides import key_of
from ssl_pkg.run.directory import RunDirectory

SUPERVISED: Final = "supervised"  # the method whose pretraining is a final model already
EVALUATIONS: Final = ("ood", "embed", "width")  # of every final model
RUNTIME_KEYS: Final = (
    "run_dir",
    "source",
    "data.root",
    "data.resident_gb",
    "data.contact_sheet",
    "device",
    "threads",
    "checkpoint.minutes",
    "checkpoint.epochs",
    "study.methods",
    "study.seeds",
)
WEIGHT: Final = {"pretrain": 8.0, "finetune": 4.0, "width": 2.0}  # rough length of a stage; of the others: 1


@dataclass(frozen=True)
class Job:
    """One run of the study."""

    name: str
    stage: str  # one of ssl_pkg's, or REPORT
    model: str  # pretrain, probe, finetune: the method; ood, embed, width: the final model; report: nothing
    seed: int | None
    overrides: tuple[str, ...]  # what follows `python -m ssl_pkg` (report: `python -m analysis`) on the command line
    parents: tuple[str, ...]  # names of the jobs that must be complete before
    run_dir: Path  # where the result appears
    choice: tuple[
        str, ...
    ] = ()  # of the swept overrides, those that this run, or one that it starts from, was made with

    @property
    def variant(self) -> str:
        """What tells it from its like in a sweep, e.g. `temperature=0.1`; empty without one."""
        return label(self.choice)

    @property
    def complete(self) -> bool:
        """Whether the result is there; a report must be newer than the results that it tells of."""
        if self.stage != REPORT:
            return RunDirectory(self.run_dir).complete
        try:
            made = (self.run_dir / "report.pdf").stat().st_mtime
            results = [result.stat().st_mtime for result in Path(self.overrides[0]).glob("*/result.json")]
            return bool(results) and made >= max(results)
        except OSError:
            return False

    def line(self, threads: int, *, gpu: bool = False) -> tuple[str, ...]:
        """The stage's overrides, also for where it runs. Where a GPU was asked for, a stage that can't use it says so,
        rather than spend hours on the CPU."""
        device = ("device=cuda",) if gpu and "device" not in map(key_of, self.overrides) else ()
        return (*self.overrides, *device, f"threads={threads}")

    @property
    def settings(self) -> tuple[str, ...]:
        """The overrides that say what the run is, without those of CIRCUMSTANCES: where and how it is made."""
        told = [entry for entry in self.overrides if self.stage != REPORT and key_of(entry) not in RUNTIME_KEYS]
        return effective(told)


def plan(study: Study, *, runs: Path, reports: Path, data_root: str, overrides: Sequence[str] = ()) -> list[Job]:
    """All jobs of `study`, parents before children, the report last.

    runs, reports: the folders above RUNS/STUDY and REPORTS/STUDY. overrides: the user's own; each stage gets those
    that it reads; one that lists several values (Hydra's `key=a,b`) makes runs of their own for each. Raises BadInput.
    """
    methods, seeds = tuple(dict.fromkeys(study.methods)), tuple(dict.fromkeys(study.seeds))
    fixed, choices = sweep(overrides)
    planner = _Planner(study.name, runs / study.name, data_root, methods, seeds, fixed)
    found = {job.name: job for choice in choices for seed in seeds for job in planner.of_seed(seed, choice)}
    jobs = list(found.values())
    out = reports / study.name
    # it waits for every run: one that is made anew may have children that are complete
    report = Job(REPORT, REPORT, "", None, (str(runs / study.name), "--out", str(out)), tuple(found), out)
    return [*jobs, report]


@dataclass(frozen=True)
class _Planner:
    """What all jobs of a plan have in common."""

    study: str
    folder: Path
    data_root: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]

    def of_seed(self, seed: int, choice: tuple[str, ...]) -> Iterator[Job]:
        """The jobs of one seed and one choice of the swept overrides, parents before children."""
        finals: list[tuple[str, Job]] = []  # final models by name, each with the job that leaves it
        for method in self.methods:
            pretrain = self.job("pretrain", method, seed, choice)
            yield pretrain
            if method == SUPERVISED:
                finals.append((method, pretrain))
                continue
            for stage in ("probe", "finetune"):
                adapted = self.job(stage, method, seed, choice, source=pretrain)
                yield adapted
                finals.append((f"{method}-{stage}", adapted))
        probe = self.job("probe", RANDOM, seed, choice)  # what everything is compared with
        yield probe
        for model, leaving in [*finals, (f"{RANDOM}-probe", probe)]:
            for stage in EVALUATIONS:
                yield self.job(stage, model, seed, choice, source=leaving)

    def job(self, stage: str, model: str, seed: int, choice: tuple[str, ...], source: Job | None = None) -> Job:
        """One run; without `source` a pretraining, or a probe of the random initialisation."""
        own = tuple(override for override in choice if reads(stage, override))
        inherited = source.choice if source else ()
        made_with = tuple(override for override in choice if override in own or override in inherited)
        variant = label(made_with)
        name = f"{stage}-{model}-s{seed}" + (f"-{variant}" if variant else "")
        run_dir = self.folder / name
        line = [f"study={self.study}", f"stage={stage}", f"seed={seed}"]
        if stage == "pretrain":
            line.append(f"method={model}")
        else:
            line.append(f"source={source.run_dir if source else RANDOM}")
        line += [f"study.methods=[{','.join(self.methods)}]", f"study.seeds=[{','.join(map(str, self.seeds))}]"]
        line += [f"data.root={self.data_root}", f"run_dir={run_dir}"]
        line += [f"variant={variant}"] if variant else []
        line += [override for override in (*self.overrides, *own) if reads(stage, override)]
        return Job(name, stage, model, seed, tuple(line), (source.name,) if source else (), run_dir, made_with)


def urgency(jobs: Sequence[Job]) -> dict[str, float]:
    """How much work hangs on each job: its own and that of the longest chain behind it. Starting the most urgent
    first keeps the tail short."""
    behind: dict[str, float] = {}
    lengths: dict[str, float] = {}
    for job in reversed(jobs):
        lengths[job.name] = WEIGHT.get(job.stage, 1.0) + behind.get(job.name, 0.0)
        for parent in job.parents:
            behind[parent] = max(behind.get(parent, 0.0), lengths[job.name])
    return lengths
