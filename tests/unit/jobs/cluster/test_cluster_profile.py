from pathlib import Path

import pytest
import yaml

from jobs.cluster.profile import PROFILES, load_profile, profiles
from ssl_pkg.errors import BadInput


@pytest.mark.parametrize("name", profiles())
def test_every_profile_in_slurm_profiles_is_valid(name: str) -> None:
    assert load_profile(name).name == name


def test_the_profiles_in_the_documentation_exist() -> None:
    assert {"local", "testbed"} <= set(profiles())
    assert sum(name.startswith("example-") for name in profiles()) >= 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("cpus: 1\nmemory: {per_node: 1}\n", "lacks minutes: add a line"),
        ("cpus: 0\nmemory: {per_node: 1}\nminutes: 9\n", "cpus: input should be greater than 0"),
        (
            "cpus: 1\nmemory: {per_node: 1}\nminutes: 9\ncpu: 2\n",
            "there is no field cpu (did you mean cpus?): the fields are name, conf",
        ),
        ("memory: {pernode: 1}\nminutes: 9\n", "there is no field memory.pernode (did you mean per_node?)"),
        ("cpus: one\nmemory: {per_node: 1}\nminutes: 9\n", "cpus: input should be a valid integer"),
        (
            "cpus: 1\nmemory: {per_node: 1}\nminutes: 9\nsbatch: {job_name: mine}\n",
            "sbatch: job_name is set by this project",
        ),
        *(
            (
                f"cpus: 1\nminutes: 9\nsetup: ['true', {begin!r}, '  export A=1', 'fi']\n",
                f"setup: entry 2 is not a complete command ({error}): write a block of several lines as one entry, "
                f"after YAML's `|`: {begin}",
            )
            for begin, error in (
                ("if true; then", "syntax error: unexpected end of file"),
                ("cat <<EOF", "warning: here-document at line 1 delimited by end-of-file (wanted `EOF')"),
                ("export A=1 " + "\\", "the last line ends with a backslash"),
            )
        ),
        ("cpus: 1\nmemory: {per_node: 1}\nminutes: 2\n", "signal_seconds: the signal would come before"),
        (
            "cpus: 1\nmemory: {per_node: 1}\nminutes: 9\ngpus: 2\nprocesses: 4\n",
            "processes: 4 processes on a node need as many GPUs",
        ),
        ("cpus: 1\nmemory_gb: 1\nminutes: 9\n", "there is no field memory_gb (did you mean memory?)"),
        ("cpus: 1\nmemory: 8\nminutes: 9\n", "memory: give the unit, like {per_node: 8}"),
        ("cpus: 1\nmemory: {}\nminutes: 9\n", "memory: give one of per_node, per_cpu and per_gpu"),
        ("cpus: 1\nmemory: {per_node: 8, per_cpu: 1}\nminutes: 9\n", "memory: give one of per_node"),
        ("cpus: 1\nmemory: {per_core: 8}\nminutes: 9\n", "memory.per_core (did you mean per_node?)"),
        ("cpus: 1\nmemory: {per_gpu: 8}\nminutes: 9\n", "memory: per_gpu needs a profile with gpus"),
        ("cpus: 1\nminutes: 9\nsbatch: {mem: ''}\n", "sbatch: mem is empty: give a value, or null"),
        ("cpus: 1\nminutes: 9\nsbatch: {signal: null}\n", "sbatch: signal is set by this project"),
        ("cpus: 1\nminutes: 9\nnodes: 2\nsbatch: {nodes: null}\n", "sbatch: nodes can't be null"),
        (
            "cpus: 1\nminutes: 9\nsbatch: {nodes: 4}\n",
            "sbatch: nodes is the profile's field `nodes`: give that instead",
        ),
        ("cpus: 1\nminutes: 9\nsbatch: {ntasks: 2}\n", "sbatch: ntasks is the profile's field `processes`"),
        ("cpus: 1\nminutes: 9\nsbatch: {ntasks_per_node: 2}\n", "ntasks_per_node is the profile's field `processes`"),
        ("cpus: 1\nminutes: 9\nsbatch: {cpus-per-task: 2}\n", "cpus-per-task is the profile's field `cpus`"),
        ("cpus: 1\nmemory: {per_node: .inf}\nminutes: 9\n", "memory.per_node: input should be"),
        ("cpus: 1\nmemory: {per_cpu: 1.0e+307}\nminutes: 9\n", "memory.per_cpu: input should be"),
        ("cpus: 1\nminutes: 1:30\n", "minutes: give a whole number of minutes, like 90, not 1:30"),
        ("cpus: 1\nminutes: null\n", "lacks minutes: add a line"),
        ("cpus: 1\nminutes: 9\nsbatch: {nice: 1.5}\n", "sbatch: nice is 1.5: give text"),
        ("cpus: 1\nminutes: 9\nsbatch: --nice=1\n", "sbatch: give sbatch's options by name"),
        ("cpus: 1\nminutes: 9\nmemory: {per_node: null}\n", "memory: give one of per_node"),
        ("- 1\n", "is not a profile"),
        ("", "is not a profile"),
        ("a: [1\n", "can't be read"),
        ("cpus: 0b_\nminutes: 9\n", "can't be read"),
        ("name: local\ncpus: 1\nminutes: 9\n", "there is no field name: the file's name is the profile's name"),
        ("cpus: 1\nminutes: 9\nsetup: 3\n", "setup: input should be a list, like [a, b]"),
    ],
)
def test_a_wrong_profile_is_one_sentence_with_its_file_and_field(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(BadInput) as refusal:
        load_profile(str(file))
    assert str(file) in str(refusal.value)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_error_about_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match=f"'nowhere'.*local.*testbed.*{PROFILES}"):
        load_profile("nowhere")


def test_a_profile_can_have_a_container(tmp_path: Path) -> None:
    file, rest = tmp_path / "mine.yaml", "cpus: 1\nmemory: {per_node: 1}\nminutes: 9\n"
    file.write_text(f"{rest}container: {{backend: apptainer, image: /images/study.sandbox, binds: [/scratch]}}\n")
    container = load_profile(str(file)).container
    assert container
    assert container.client()[1:] == (
        "-P", "-m", "jobs.cluster.container", "--backend=apptainer", "--image=/images/study.sandbox",
        "--bind=/scratch", "--",
    )  # fmt: skip
    file.write_text(f"{rest}container: null\n")
    assert load_profile(str(file)).container is None


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        ("{backend: lxc, image: a}", "container.backend: input should be 'docker', 'podman', 'apptainer' or 'pyxis'"),
        ("{backend: docker}", "lacks container.image: add a line that begins with `image:`"),
    ],
)
def test_a_wrong_container_is_one_sentence(tmp_path: Path, container: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"cpus: 1\nminutes: 9\ncontainer: {container}\n")
    with pytest.raises(BadInput, match=sentence):
        load_profile(str(file))


def test_a_set_up_entry_can_have_several_lines(tmp_path: Path) -> None:
    entry = "if true; then\n  export A=1\nfi\n# isn't it\ncat <<EOF\n'\nEOF\nls !(x)"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"cpus": 1, "minutes": 9, "setup": [entry, "# don't", ""]}))
    assert load_profile(str(tmp_path / "mine.yaml")).setup == (entry, "# don't", "")


@pytest.mark.parametrize("line", ["", "memory: null\n"])
def test_a_profile_may_ask_for_no_memory(tmp_path: Path, line: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"cpus: 1\nminutes: 9\n{line}")
    assert load_profile(str(file)).memory is None


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("cpus: 1\nminutes: 9\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_profile("~/mine.yaml").name == "mine"


def test_the_error_about_a_missing_file_has_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        load_profile(str(tmp_path / "tesbed.yaml"))
    message = str(refusal.value)
    assert message.startswith(f"there is no profile file {tmp_path}/tesbed.yaml (did you mean testbed?): ")
    assert ".yaml.yaml" not in message and str(PROFILES) not in message
    with pytest.raises(BadInput, match=r"'tesbed' \(did you mean testbed\?\)"):
        load_profile("tesbed")


def test_the_users_variables_set_fields_that_the_profile_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SBATCH_PARTITION and similar variables. A profile's field overrides its variable."""
    mine = {"PARTITION": "a", "ACCOUNT": "b", "QOS": "c", "RESERVATION": "d", "TIMELIMIT": "1", "MEM_PER_CPU": "1"}
    for name, value in mine.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    file = tmp_path / "mine.yaml"
    file.write_text("cpus: 1\nminutes: 9\n")
    left_open = load_profile(str(file))
    assert (left_open.partition, left_open.account, left_open.qos) == ("a", "b", "c")
    assert left_open.sbatch == {"reservation": "d"}
    assert (left_open.minutes, left_open.memory) == (9, None)
    file.write_text("cpus: 1\nminutes: 9\npartition: mine\nsbatch: {reservation: ours}\n")
    profile = load_profile(str(file))
    assert (profile.partition, profile.account, profile.sbatch) == ("mine", "b", {"reservation": "ours"})


def test_a_field_that_is_null_counts_as_missing_and_a_single_line_needs_no_list(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("cpus: 1\nminutes: 9\ngpus: null\nnodes:\nsignal_seconds:\nsetup:\nsbatch:\n")
    left_out = load_profile(str(file))
    assert (left_out.gpus, left_out.nodes, left_out.setup, left_out.sbatch) == (0, 1, (), {})
    file.write_text("cpus: 1\nminutes: 9\nsetup: module load x\nsbatch: {mem: null, begin: 1:30:00, nice: 2}\n")
    given = load_profile(str(file))
    assert given.setup == ("module load x",)
    assert given.sbatch == {"mem": None, "begin": "1:30:00", "nice": 2}
