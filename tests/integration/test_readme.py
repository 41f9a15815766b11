"""The commands in the documents exist, and their options and overrides are valid."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typed import check_command

import install
from jobs.cluster.profile import load_profile
from jobs.image import HELP
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.presets import studies

PROJECT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/clusters.md", "docs/faq.md", "docs/image.md", "docs/stages.md")


def blocks(name: str, heading: str = "") -> list[str]:
    """The lines of the blocks of shell commands in a document, or in its section `heading`."""
    text = (PROJECT / name).read_text(encoding="utf-8")
    if heading:
        (text,) = re.findall(rf"^## {heading}$(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
    return "".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()


def commands(start: str) -> list[list[str]]:
    """The words of each command in a block or between backticks whose first words match `start`."""
    found = []
    for name in DOCUMENTS:
        text = (PROJECT / name).read_text(encoding="utf-8")
        if name == "docs/faq.md":
            text = re.sub(r"^\| `[^`]*`", "|", text, flags=re.MULTILINE)  # messages, which can begin like a command
        outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for line in [*blocks(name), *re.findall(r"`([^`]+)`", outside.replace("\n", " "))]:
            for part in re.split(r"\s#\s|&&", line):
                if re.match(start, part.strip()):
                    found.append(shlex.split(re.sub(start, "", part.strip(), count=1)))
    return found


JOBS = commands(r"(?:\.venv/bin/)?ssl-study(?= )")
STAGES = commands(r".*(?:-m ssl_pkg|ssl-study-stage)(?= )")
MAKE = commands(r"make(?= |$)")
DOCKER = commands(r"docker run(?= )")
for help_text in (HELP, (PROJECT / "ssl_pkg" / "__main__.py").read_text(encoding="utf-8")):
    lines = [line.partition(" #")[0] for line in help_text.splitlines()]
    DOCKER += [shlex.split(line.partition("docker run ")[2]) for line in lines if "docker run " in line]
    STAGES += [shlex.split(line)[1:] for line in lines if line.startswith("  ssl-study-stage ")]


def test_commands_are_found() -> None:
    assert len(JOBS) >= 4 and len(DOCKER) >= 4 and len(STAGES) >= 3 and len(MAKE) >= 15


def test_each_target_and_variable_of_make_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for words in MAKE:
        named = [word for word in words if re.fullmatch(r"[a-z-]+", word)]
        assert set(named) <= targets, words
        for variable in (word.partition("=")[0] for word in words if "=" in word):
            assert f"$({variable})" in makefile or f"$(if $({variable})" in makefile, words
        line = ["make", "--dry-run", "--assume-old=.venv/installed", *words]
        subprocess.run(line, cwd=PROJECT, capture_output=True, check=True)


@pytest.mark.parametrize("words", JOBS, ids=" ".join)
def test_each_command_of_ssl_study_is_valid(words: list[str]) -> None:
    if words != ["--help"]:
        check_command(words)


@pytest.mark.parametrize("words", DOCKER, ids=" ".join)
def test_each_command_in_the_image_is_valid(words: list[str]) -> None:
    """tests/container runs the image."""
    (place,) = (words.index(name) for name in ("ssl-study", "IMAGE") if name in words)
    inside = words[place + 1 :]
    if inside and "=" in inside[0]:
        load_config([*inside, "data.root=synthetic"])
    elif inside:
        check_command(inside)


def test_the_copied_study_is_where_the_report_looks_for_it(tmp_path: Path) -> None:
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    (words,) = commands(r"rsync(?= )")
    *options, source, target = words
    host, _, folder = source.partition(":")
    (tmp_path / host / folder).mkdir(parents=True)
    subprocess.run(["rsync", *options, f"{host}/{folder}", target], cwd=tmp_path, check=True)
    assert (tmp_path / "runs" / "stl10").is_dir()


def test_every_line_is_one_that_a_test_checks() -> None:
    """Lines that say nothing about this project need no test; the README has none of them."""
    known = r"(\.venv/bin/)?ssl-study(-stage)?( |$)|.* -m ssl_pkg |make( |$)|docker run |rsync |cp |mkdir "
    others = (
        r"me=|git clone |cd |cat |python3.11 -m venv |/project/env/bin/pip install |\.venv/bin/(pre-commit|python) |"
        r"python -m bench\.lease "  # tests/unit/bench/test_lease.py runs it
    )
    for name in DOCUMENTS:
        for line in blocks(name):
            for part in re.split(r"\s#\s", line)[0].split("&&"):
                allowed = known if name == "README.md" else f"{known}|{others}"
                assert re.match(allowed, part.strip()), f"{name}: {part}"


def test_the_readmes_recipe_for_clusters_gives_the_nodes_torch(tmp_path: Path) -> None:
    """Followed literally: what is installed, which profile is written, and which Python that names."""
    recipe = [line.partition(" #")[0].split() for line in blocks("README.md", "On a cluster")]
    setup, copy, check, submit = recipe[:4]
    assert setup == ["make", "setup"]
    assert "install.py '$(or $(EXTRAS),dev)'" in (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert install.PARTS["dev"] >= {"train", "submit", "report"}
    assert copy[0] == "cp"
    shutil.copytree(PROJECT / "slurm", tmp_path / "slurm")
    subprocess.run(copy, cwd=tmp_path, check=True)
    assert str(load_profile(str(tmp_path / copy[2])).python) == str(install.VENV / "bin/python")
    name = Path(copy[2]).stem
    assert check[1:] == ["profile", name, "--check"] and submit[submit.index("--cluster") + 1] == name


@pytest.mark.parametrize("words", STAGES, ids=" ".join)
def test_each_stage_is_valid(words: list[str]) -> None:
    if words != ["--help"]:
        load_config(words)


def test_the_readmes_commands_work_without_activating_the_environment() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"(?:^|`)ssl-study(?:-stage)? .*", text, re.MULTILINE)


def test_git_ignores_what_the_readmes_commands_read_and_write() -> None:
    lines = [shlex.split(line, comments=True) for line in blocks("README.md", "Your own images")]
    (photos, data), (_, new) = (words[2:] for words in lines if words[1] in ("pack", "predict"))
    files = [f"{photos}/cat/a.jpg", f"{data}/files.csv", f"{new}/a.jpg", "predictions.csv", "runs/a", "reports/a"]
    done = subprocess.run(["git", "check-ignore", *files], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("this is no clone")
    assert done.stdout.splitlines() == files


def test_each_list_of_the_studies_has_all_of_them() -> None:
    named = "|".join(("demo", "photos-quick", "photos-cpu", "photos", "stl10"))
    assert sorted(named.split("|")) == [*studies()]
    assert f"STUDY={named} " in (PROJECT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "ssl_pkg", "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for folder in ("study", "budget"):
        files = sorted(file.stem for file in (PROJECT / "ssl_pkg" / "conf" / folder).glob("*.yaml"))
        assert " | ".join(files) in shown.stdout


def test_the_help_of_make_lists_the_targets() -> None:
    done = subprocess.run(["make"], cwd=PROJECT, capture_output=True, encoding="utf-8", check=True)
    assert {"demo", "doctor", "tensorboard"} <= {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
