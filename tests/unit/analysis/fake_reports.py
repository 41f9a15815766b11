"""A FakeStudy that was read and reported, and a sweep of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fake_study import FakeStudy

from analysis.study import Study


@dataclass
class Whole:
    """A study on disk, the Study read from it, and the folder with its tables."""

    fake: FakeStudy
    study: Study
    out: Path


@dataclass
class Built(Whole):
    """A study with its report."""

    pdf: Path
    font_sizes: list[float]
    content: dict[str, Any]  # of the PDF


def swept(fake: FakeStudy, values: Sequence[float]) -> None:
    """Every run of `fake.methods` once for each temperature, as `jobs` names and configures them."""
    fake.path.mkdir(parents=True)
    fake.write_plan(f"method.model.temperature={','.join(map(str, values))}")
    for value in values:
        for method in fake.methods:
            runs = [fake.pretrain(method), fake.probe(method), fake.finetune(method)]
            for model in (f"{method}-probe", f"{method}-finetune"):
                runs += [fake.ood(model), fake.corruptions(model), fake.embed(model), fake.width(model)]
            for run in runs:
                config = yaml.safe_load((run / "config.yaml").read_text())
                config["variant"] = f"temperature={value}"
                if config["source"]:
                    config["source"] += f"-temperature={value}"
                (run / "config.yaml").write_text(yaml.safe_dump(config))
                run.rename(run.with_name(f"{run.name}-temperature={value}"))
