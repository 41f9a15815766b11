"""The commands in the documents exist, and their options and overrides are valid."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from jobs.command_line import parse
from jobs.plan.settings import configure
from ssl_pkg.compose import load_config

PROJECT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/clusters.md", "docs/faq.md", "docs/image.md", "docs/stages.md")


def commands(start: str) -> list[list[str]]:
    """The words of each command in a block or between backticks whose first words match `start`."""
    found = []
    for name in DOCUMENTS:
        text = (PROJECT / name).read_text(encoding="utf-8")
        if name == "docs/faq.md":
            text = re.sub(r"^\| `[^`]*`", "|", text, flags=re.MULTILINE)  # messages, which can begin like a command
        lines = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines = "\n".join([lines, *re.findall(r"`([^`]+)`", outside.replace("\n", " "))])
        for line in lines.splitlines():
            for part in re.split(r"\s#\s|&&", line):
                if re.match(start, part.strip()):
                    found.append(shlex.split(re.sub(start, "", part.strip(), count=1)))
    return found


JOBS = commands(r"(?:\.venv/bin/)?ssl-study(?= )")
STAGES = commands(r".*(?:-m ssl_pkg|ssl-study-stage)(?= )")
MAKE = commands(r"make(?= |$)")


def test_commands_are_found() -> None:
    assert len(JOBS) >= 4 and len(STAGES) >= 3 and len(MAKE) >= 15


def test_each_target_and_variable_of_make_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for words in MAKE:
        named = [word for word in words if re.fullmatch(r"[a-z-]+", word)]
        assert set(named) <= targets, words
        for variable in (word.partition("=")[0] for word in words if "=" in word):
            assert f"$({variable})" in makefile or f"$(if $({variable})" in makefile, words


@pytest.mark.parametrize("words", JOBS, ids=" ".join)
def test_each_command_of_ssl_study_is_valid(words: list[str]) -> None:
    if words[0] in ("--help", "pack", "data", "report", "predict"):
        return  # which have tests of their own
    if len(words) == 1:  # a mention of a command, without its arguments
        with pytest.raises(SystemExit, match="0"):
            parse([*words, "--help"], argparse.Namespace())
        return
    words = [
        "synthetic" if word == "…" and before == "--data" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    words = [word for word in words if word != "…"]
    options = argparse.Namespace()
    overrides = parse(words, options)
    if options.command in ("demo", "study", "submit"):
        study = "demo" if options.study == "STUDY" else options.study
        configure(study, data="synthetic", seeds=options.seeds, overrides=overrides)


@pytest.mark.parametrize("words", STAGES, ids=" ".join)
def test_each_stage_is_valid(words: list[str]) -> None:
    if words != ["--help"]:
        load_config(words)


def test_the_help_of_make_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=PROJECT, capture_output=True, encoding="utf-8", check=True)
    assert {"demo", "doctor", "tensorboard"} <= {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
