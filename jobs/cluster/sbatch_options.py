"""sbatch's options for the jobs of a profile: the same for `submit` and for `profile --check`."""

from typing import Any, Final

from jobs.cluster.profile import Profile
from jobs.ledger import REPORT

MEMORY_OPTIONS: Final = ("mem", "mem_per_cpu", "mem_per_gpu")


def sbatch_options(profile: Profile, stage: str) -> dict[str, Any]:
    """What a job of this stage asks of SLURM, by option, with underscores. The profile's `sbatch:` outweighs the rest,
    and None there drops an option."""
    several = stage == "pretrain"
    gpus = 0 if stage == REPORT else profile.gpus if several else min(profile.gpus, 1)
    own: dict[str, Any] = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "time": profile.minutes,
        "nodes": profile.nodes if several else 1,
        "ntasks_per_node": profile.processes if several else 1,
        "cpus_per_task": profile.cpus,
        "gpus_per_node": gpus or None,
        "requeue": True,
    }
    given = {name.replace("-", "_"): value for name, value in profile.sbatch.items()}
    if profile.memory and not given.keys() & set(MEMORY_OPTIONS):
        own |= profile.memory.options(gpus)
    return {name: value for name, value in (own | given).items() if value is not None}
