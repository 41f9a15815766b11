"""Checks that a change alters no result: `python -m bench.equality COMMIT` compares COMMIT with the working tree.

Both checkouts run every stage of the catalogue, and the pretraining of every method, with the budget `tiny` on the
synthetic set, with the same Python. The digests of weights and metrics and the values of all rows must be equal.
Results differ between machines, so both checkouts run on this one. A checkout takes some minutes on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from ssl_pkg.catalogue import ADAPTATIONS, EVALUATIONS, RANDOM, STAGES, Weights
from ssl_pkg.config.presets import methods
from ssl_pkg.run.directory import RESULT

ADAPTED: Final = "simclr"  # the method whose encoder the other stages start from
ROOT: Final = Path(__file__).parent.parent


def lines() -> dict[str, list[str]]:
    """Maps each run's name to its overrides. A `source` is the name of an earlier run, or RANDOM."""
    found = {f"pretrain-{method}": ["stage=pretrain", f"method={method}"] for method in methods()}
    encoders = {ADAPTED: f"pretrain-{ADAPTED}", RANDOM: RANDOM}
    models = {f"{stage}-{name}": f"{stage}-{name}" for stage in ADAPTATIONS for name in encoders}
    sources = {Weights.ENCODER: encoders, Weights.FINAL_MODEL: models}
    for stage in (*ADAPTATIONS, *EVALUATIONS):
        for name, source in sources[STAGES[stage].starts_from].items():
            found[f"{stage}-{name}"] = [f"stage={stage}", f"source={source}"]
    return found


def results(checkout: Path, runs: Path) -> dict[str, dict[str, Any]]:
    """Runs all of `lines` with the code in `checkout`, in the folder `runs`; returns each run's result.json."""
    found = {}
    for name, overrides in lines().items():
        words = [f"source={runs / word[7:]}" if word[7:] in found else word for word in overrides]
        given = [f"run_dir={runs / name}", "study=demo", "budget=tiny", "seed=3", "threads=2", *words]
        done = subprocess.run(
            [sys.executable, "-m", "ssl_pkg", *given], cwd=checkout, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            sys.exit(f"{name} in {checkout} ended with exit status {done.returncode}:\n{done.stderr}")
        found[name] = json.loads((runs / name / RESULT).read_text(encoding="utf-8"))
    return found


def numbers(result: dict[str, Any]) -> list[list[Any]]:
    """The values of a result's rows, without their names, which may differ between the two commits."""
    return [[row.get(key) for key in ("value", "low", "high", "n", "reason")] for row in result["rows"]]


def main() -> int:
    """Prints a table of all runs; returns 1 if anything differs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.equality", description=__doc__)
    parser.add_argument("commit", help="commit to compare the working tree with")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory() as folder:
        before, runs = Path(folder, "before"), Path(folder, "runs")
        subprocess.run(["git", "worktree", "add", "--detach", before, commit], cwd=ROOT, check=True)
        try:
            pair = [results(checkout, runs / checkout.name) for checkout in (before, ROOT)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)
    table = Table("run", "weights_sha256", "metrics_sha256", "rows", title=f"{commit} and the working tree")
    equal = True
    for name, (one, other) in {name: (pair[0][name], pair[1][name]) for name in lines()}.items():
        same = [one[key] == other[key] for key in ("weights_sha256", "metrics_sha256")]
        same.append(numbers(one) == numbers(other))
        shown = [str(one["weights_sha256"])[:12], str(one["metrics_sha256"])[:12], f"{len(one['rows'])} values"]
        table.add_row(name, *(f"{text} {'=' if ok else 'DIFFERS'}" for text, ok in zip(shown, same, strict=True)))
        equal = equal and all(same)
    Console().print(table)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
