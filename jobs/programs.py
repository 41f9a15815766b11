"""The programs that run a stage and build the report."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Programs:
    """The first words of their command lines."""

    stage: tuple[str, ...] = (sys.executable, "-P", "-m", "ssl_pkg")
    report: tuple[str, ...] = (sys.executable, "-P", "-m", "analysis")
