"""SLURM's limits: the size of an array, and the number of jobs that a user may have in the queue at once."""

import getpass
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from jobs.cluster.profile import Profile
from jobs.cluster.slurm_cli import SchedulerUnavailable, slurm_output

# Limits in sbatch's errors: QOSMaxSubmitJobPerUserLimit, AssocGrpSubmitJobsLimit, MaxSubmitJobsPerAccount, ...
_SUBMIT: Final = re.compile(r"\b\w*SubmitJob\w*")
_LIMIT: Final = re.compile(r"\b(QOS|Assoc)\w+Limit\b|\bMax\w+Per\w+\b")
_POLICY: Final = "violates accounting/QOS policy"  # follows the limit's name; older versions of SLURM print only this
_ARRAY: Final = "Invalid job array specification"


@dataclass(frozen=True)
class SubmitLimit:
    """A limit on the number of pending and running jobs. Each task of an array counts as a job."""

    source: str
    jobs: int

    def __str__(self) -> str:
        return f"{self.source} allows {self.jobs} at once"


def cluster_config() -> dict[str, str]:
    """The cluster's configuration, as `scontrol show config` prints it. Raises SchedulerUnavailable."""
    return dict(re.findall(r"^(\S+)\s*= (.*?)\s*$", slurm_output("scontrol", "show", "config"), re.MULTILINE))


def max_array_tasks(config: Mapping[str, str]) -> int:
    """The maximum number of tasks in an array; 1 if the cluster has no arrays."""
    size = config.get("MaxArraySize", "")
    tasks = re.search(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))
    return max(1, min(int(size) if size.isdigit() else 1000, int(tasks[1]) if tasks else 1_000_000))


def smaller_array_may_fit(error: str) -> bool:
    """Whether sbatch may accept a smaller array after this error."""
    return _ARRAY in error or limit_reached(error) is not None


def limit_reached(error: str) -> str | None:
    """The name of the limit on a user's jobs in an error of sbatch.

    Returns "" if the error may mean such a limit but names none, and None if sbatch had another reason.
    """
    if named := _SUBMIT.search(error):
        return named[0]
    return "" if _POLICY in error and not _LIMIT.search(error) else None


def submit_limits(profile: Profile, config: Mapping[str, str]) -> list[SubmitLimit]:
    """The limits of sacctmgr for a profile's jobs, the lowest first; none if they are unknown or not enforced."""
    if "limits" not in config.get("AccountingStorageEnforce", ""):
        return []
    try:
        return sorted(_limits(profile, config), key=lambda limit: limit.jobs)
    except (SchedulerUnavailable, KeyError, OSError):  # no sacctmgr, no answer, or a user without a name
        return []


def _limits(profile: Profile, config: Mapping[str, str]) -> Iterator[SubmitLimit]:
    fields = "defaultaccount,cluster,account,qos,defaultqos,maxsubmitjobs,grpsubmitjobs"
    line = ("sacctmgr", "-n", "-P", "show", "user", "where", f"name={getpass.getuser()}", "withassoc")
    names = {"normal"}
    for row in _rows(7, *line, f"format={fields}"):
        default, cluster, account, known, default_qos, *most = row
        if cluster != config.get("ClusterName") or account != (profile.account or default):
            continue
        names = {default_qos or (known if "," not in known else "normal")}
        yield from (SubmitLimit(f"account {account}", int(jobs)) for jobs in most if jobs.isdigit())
    names = {profile.qos} if profile.qos else names
    if profile.partition and "," not in profile.partition:
        names |= set(re.findall(r" QoS=(\S+)", slurm_output("scontrol", "-o", "show", "partition", profile.partition)))
    qualities = ("sacctmgr", "-n", "-P", "show", "qos", "format=name,maxsubmitjobspu,maxsubmitjobspa,grpsubmitjobs")
    for name, *most in _rows(4, *qualities):
        if name in names:
            yield from (SubmitLimit(f"QOS {name}", int(jobs)) for jobs in most if jobs.isdigit())


def describe_limit(limits: list[SubmitLimit], reached: str) -> str:
    """A sentence about the limit that was reached."""
    kind = "account" if reached.startswith("Assoc") else "QOS" if reached else ""
    fitting = [limit for limit in limits if limit.source.startswith(kind)]
    return (
        str(fitting[0]) if fitting else f"SLURM's limit on your jobs is reached ({reached or 'SLURM does not name it'})"
    )


def calls_needed(limit: SubmitLimit, runs: int) -> int:
    """The calls of `submit` for `runs` runs, each after the last one's jobs have ended. The limit must allow a job."""
    return math.ceil(runs / limit.jobs)


def _rows(columns: int, *line: str) -> Iterator[list[str]]:
    for text in slurm_output(*line).splitlines():
        if len(row := text.split("|")) == columns:
            yield row
