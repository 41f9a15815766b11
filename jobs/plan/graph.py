"""The study as a graph of stages: its runs, their command lines and their dependencies.

The local runner and the SLURM submission execute the same jobs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.ledger import REPORT
from jobs.plan.sweeps import expand_sweep, reads, variant_of
from ssl_pkg.catalogue import ADAPTATIONS, EVALUATIONS, OOD, RANDOM, STAGES, SUPERVISED, Weights, adapted
from ssl_pkg.config.overrides import key_of
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.run.compatibility import RUN_FORMAT
from ssl_pkg.run.directory import RunDirectory, model_name
from ssl_pkg.run.study_plan import REPORT_FILE, PlannedRun, newest_result

IDENTITY_KEYS: Final = ("study", "stage", "method", "seed", "variant")  # plan.json has a field for each of these
# Overrides that change where or how a run executes, and not its result.
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
)


@dataclass(frozen=True)
class Job:
    """One run of the study, or its report."""

    name: str
    stage: str  # a name of the stage catalogue, or REPORT
    overrides: tuple[str, ...]  # the arguments of `python -m ssl_pkg`; of the report, those of `python -m analysis`
    parents: tuple[str, ...]  # names of the jobs that must be complete before this one starts
    run_dir: Path  # where the result appears
    group: str = REPORT  # the name without seed and variant, e.g. `ood-byol-probe`
    method: str = ""
    adaptation: str | None = None  # "probe", "finetune", or None for a model that was not adapted
    seed: int | None = None
    choice: tuple[str, ...] = ()  # the swept overrides of this run and of the runs that it starts from

    @property
    def model(self) -> str:
        """The model that the run makes or evaluates, e.g. `byol-probe`."""
        return model_name(self.method, self.adaptation)

    @property
    def variant(self) -> str:
        """The swept values of the run, e.g. `temperature=0.1`; empty without a sweep."""
        return variant_of(self.choice)

    @property
    def complete(self) -> bool:
        """Whether the job has a result. A report must contain every result of its study, so none may be newer."""
        if self.stage != REPORT:
            return RunDirectory(self.run_dir).complete
        try:
            return 0 < newest_result(Path(self.overrides[0])) <= (self.run_dir / REPORT_FILE).stat().st_mtime_ns
        except OSError:
            return False

    @property
    def cost(self) -> float:
        """The duration of the job, roughly, relative to others."""
        return STAGES[self.stage].cost if self.stage in STAGES else 1.0

    def stage_arguments(self, threads: int, *, gpu: bool = False) -> tuple[str, ...]:
        """The arguments of `python -m ssl_pkg` for a slot with `threads` CPU threads.

        gpu: the slot has a GPU. The stage then fails if it can't use the GPU, because it would take hours on the CPU.
        """
        device = ("device=cuda",) if gpu and "device" not in map(key_of, self.overrides) else ()
        return (*self.overrides, *device, f"threads={threads}")

    @property
    def settings(self) -> tuple[str, ...]:
        """The overrides that change the run's result, in alphabetical order; of each field, the last override."""
        last = {key_of(override): override for override in self.overrides if self.stage != REPORT}
        return tuple(sorted(last[key] for key in last if key not in (*IDENTITY_KEYS, *RUNTIME_KEYS)))

    def planned(self) -> PlannedRun:
        """The run as plan.json describes it."""
        assert self.seed is not None
        return PlannedRun(
            name=self.name,
            stage=self.stage,
            method=self.method,
            adaptation=self.adaptation,
            seed=self.seed,
            variant=self.variant,
            parents=self.parents,
            settings=self.settings,
            run_format=RUN_FORMAT,
        )

    def difference(self, earlier: PlannedRun | None) -> str | None:
        """How the settings differ from those of the earlier plan, in words; None if they are equal or not known."""
        if earlier is None or earlier.settings == self.settings:
            return None
        there = " ".join(setting for setting in earlier.settings if setting not in self.settings) or "the defaults"
        here = " ".join(setting for setting in self.settings if setting not in earlier.settings) or "the defaults"
        return f"there: {there}; now: {here}"


def plan(
    study: StudyConfig,
    *,
    runs: Path,
    reports: Path,
    data_root: str,
    ood: bool = True,
    overrides: Sequence[str] = (),
) -> list[Job]:
    """All jobs of `study`, parents before children, the report last.

    ood: whether the data has an out-of-distribution set; without one there are no runs of the stage `ood`.
    runs, reports: the folders above RUNS/STUDY and REPORTS/STUDY. overrides: the user's; each stage gets those that it
    reads. An override with several values (Hydra's `key=a,b`) is a sweep: each value has its own runs. Raises BadInput.
    """
    methods, seeds = tuple(dict.fromkeys(study.methods)), tuple(dict.fromkeys(study.seeds))
    fixed, choices = expand_sweep(overrides)
    planner = _Planner(study.name, runs / study.name, data_root, methods, fixed, ood)
    found = {job.name: job for choice in choices for seed in seeds for job in planner.of_seed(seed, choice)}
    jobs = list(found.values())
    out = reports / study.name
    # every run is a parent, not only the last ones: a run that is repeated may have complete children
    report = Job(REPORT, REPORT, (str(runs / study.name), "--out", str(out)), tuple(found), out)
    return [*jobs, report]


@dataclass(frozen=True)
class _Planner:
    """The values that all jobs of a plan share."""

    study: str
    folder: Path
    data_root: str
    methods: tuple[str, ...]
    overrides: tuple[str, ...]
    ood: bool

    def of_seed(self, seed: int, choice: tuple[str, ...]) -> Iterator[Job]:
        """The jobs of one seed and one combination of swept values, parents before children."""
        encoders: list[Job] = []
        final_models: list[Job] = []
        for method in self.methods:
            if method == SUPERVISED:
                supervised = self.job("finetune", seed, choice, method=RANDOM)
                yield supervised
                final_models.append(supervised)
                continue
            pretrain = self.job("pretrain", seed, choice, method=method)
            yield pretrain
            encoders.append(pretrain)
            for stage in ADAPTATIONS:
                final_model = self.job(stage, seed, choice, source=pretrain)
                yield final_model
                final_models.append(final_model)
        baseline = self.job("probe", seed, choice, method=RANDOM)
        yield baseline
        for model in [*final_models, baseline]:
            for stage in self.evaluations(Weights.FINAL_MODEL):
                yield self.job(stage, seed, choice, source=model)
        for stage in self.evaluations(Weights.ENCODER):
            for encoder in encoders:
                yield self.job(stage, seed, choice, source=encoder)
            yield self.job(stage, seed, choice, method=RANDOM)

    def evaluations(self, weights: Weights) -> list[str]:
        """The evaluations that start from `weights`, as far as the data allows them."""
        return [stage for stage in EVALUATIONS if STAGES[stage].starts_from is weights and (self.ood or stage != OOD)]

    def job(
        self, stage: str, seed: int, choice: tuple[str, ...], *, method: str = "", source: Job | None = None
    ) -> Job:
        """One run. It starts from the model of `source`, or, without `source`, from the random initialisation."""
        own = tuple(override for override in choice if reads(stage, override))
        inherited = source.choice if source else ()
        made_with = tuple(override for override in choice if override in own or override in inherited)
        variant = variant_of(made_with)
        group = f"{stage}-{source.model if source else method}"
        name = f"{group}-s{seed}" + (f"-{variant}" if variant else "")
        run_dir = self.folder / name
        line = [f"study={self.study}", f"stage={stage}", f"seed={seed}"]
        if stage == "pretrain":
            line.append(f"method={method}")
        else:
            line.append(f"source={source.run_dir if source else RANDOM}")
        line += [f"data.root={self.data_root}", f"run_dir={run_dir}"]
        line += [f"variant={variant}"] if variant else []
        line += [override for override in (*self.overrides, *own) if reads(stage, override)]
        method, adaptation = (source.method, source.adaptation) if source else (method, None)
        if stage in ADAPTATIONS:
            method, adaptation = adapted(method, stage)
        return Job(
            name=name,
            stage=stage,
            overrides=tuple(line),
            parents=(source.name,) if source else (),
            run_dir=run_dir,
            group=group,
            method=method,
            adaptation=adaptation,
            seed=seed,
            choice=made_with,
        )


def starting_order(jobs: Sequence[Job]) -> list[Job]:
    """The jobs in the order in which ready ones start.

    The cheapest adaptations, the probes, come first, because they soon show how good an encoder is. The longest chains
    come next, because the study then ends earlier.
    """
    cheapest, costs = min(ADAPTATIONS, key=lambda name: STAGES[name].cost), remaining_cost(jobs)
    return sorted(jobs, key=lambda job: (job.stage != cheapest, -costs[job.name]))


def remaining_cost(jobs: Sequence[Job], cost: Callable[[Job], float] = lambda job: job.cost) -> dict[str, float]:
    """The cost of the longest chain of jobs that starts with each job (its critical path)."""
    costs: dict[str, float] = {}
    after: dict[str, float] = {}  # the largest cost among the job's children
    for job in reversed(jobs):
        costs[job.name] = cost(job) + after.get(job.name, 0.0)
        for parent in job.parents:
            after[parent] = max(after.get(parent, 0.0), costs[job.name])
    return costs
