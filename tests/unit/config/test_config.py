import ast
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import ssl_pkg
from ssl_pkg.catalogue import SUPERVISED
from ssl_pkg.config.batch_sizes import peak_lr
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.presets import budgets, is_reduced, methods, studies
from ssl_pkg.errors import BadInput

PRETRAIN = ["stage=pretrain", "run_dir=x"]


@pytest.mark.slow
@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("budget", budgets())
def test_every_method_and_budget_composes(method: str, budget: str) -> None:
    config = load_config([*PRETRAIN, f"method={method}", f"budget={budget}"])
    assert config.method is not None
    assert config.method.name == method
    assert config.budget.name == budget


def flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their dotted names."""
    if not isinstance(content, dict):
        yield prefix, content
        return
    for name, value in content.items():
        yield from flat(value, f"{prefix}.{name}".lstrip("."))


TUNING = Path(str(ssl_pkg.__file__)).parent / "conf" / "tuning"


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(TUNING.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_tuning_file_gives_its_values_to_its_method_and_budget(file: Path) -> None:
    """Hydra ignores a file whose name is no METHOD-BUDGET, so the composed values are compared with the file's."""
    method, _, budget = file.stem.rpartition("-")
    line = [*PRETRAIN, f"method={method}", f"budget={budget}"]
    tuned = dict(flat(yaml.safe_load(file.read_text())["method"], "method"))
    composed = dict(flat(load_config(line).model_dump(mode="json")))
    assert tuned and {key: composed[key] for key in tuned} == tuned
    for key in [key for key, value in tuned.items() if isinstance(value, float)]:
        given = load_config([*line, f"{key}=0.123"])
        assert dict(flat(given.model_dump()))[key] == 0.123


@pytest.mark.parametrize("file", sorted(TUNING.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_field_that_counts_as_tuned_has_a_value_of_its_own(file: Path) -> None:
    content = yaml.safe_load(file.read_text())["method"]
    tuned = content.pop("tuned", [])
    assert set(tuned) <= {key for key, _ in flat(content)}
    expected = {"byol-cpu": 1, "byol-demo": 4, "byol-quick": 3, "moco-demo": 2, "moco-quick": 1}
    assert len(tuned) == expected.get(file.stem, 0)


@pytest.mark.parametrize(
    ("budget", "target_decay", "predictor_rate", "base_lr"),
    [
        ("tiny", 0.97, 10.0, 3.6),
        ("demo", 0.8, 10.0, 5.4),
        ("quick", 0.9, 10.0, 3.6),
        ("cpu", 0.97, 10.0, 1.8),
        ("full", 0.99, 1.0, 1.2),
        ("long", 0.996, 1.0, 0.8),
    ],
)
def test_the_values_of_byol(budget: str, target_decay: float, predictor_rate: float, base_lr: float) -> None:
    """Those of the small budgets stay, because earlier results have them."""
    byol = load_config([*PRETRAIN, "method=byol", f"budget={budget}"]).method
    assert byol
    values = (byol.model["target_decay"], byol.model["predictor_rate"], byol.optimizer.base_lr)
    assert values == (target_decay, predictor_rate, base_lr)


@pytest.mark.parametrize("file", sorted((TUNING.parent / "budget").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_budgets_with_the_epochs_and_the_images_of_full_are_not_reduced(file: Path) -> None:
    budget = load_config([*PRETRAIN, "method=simclr", f"budget={file.stem}"]).budget
    assert is_reduced(budget.model_dump()) == (file.stem not in ("full", "long", "photos"))


def test_a_budget_is_reduced_by_an_override() -> None:
    for field in ("resolution=64", "ssl_epochs=199", "max_steps=100000"):
        config = load_config([*PRETRAIN, "method=simclr", "budget=full", f"budget.{field}"])
        assert is_reduced(config.relevant()["budget"]), field


@pytest.mark.parametrize(("scaling", "expected"), [("linear", 0.6), ("sqrt", 0.3 * math.sqrt(2)), ("none", 0.3)])
def test_peak_lr_scales_with_the_batch(scaling: str, expected: float) -> None:
    assert peak_lr(0.3, scaling, 512) == pytest.approx(expected)


@pytest.mark.parametrize(("budget", "paper", "epochs"), [("full", 0.3, 300), ("long", 0.2, 1000)])
def test_byols_step_is_the_papers_scaled_by_the_root_of_the_batch(budget: str, paper: float, epochs: int) -> None:
    config = load_config([*PRETRAIN, "method=byol", f"budget={budget}"])
    assert config.method
    batch = config.method.batch_size
    optimizer = config.method.optimizer
    assert peak_lr(optimizer.base_lr, optimizer.lr_scaling, batch) == pytest.approx(
        paper * 4096 / 256 * (batch / 4096) ** 0.5
    )
    steps, papers = (
        count * images / size
        for count, images, size in ((config.method.epochs, 100_000, batch), (epochs, 1_281_167, 4096))
    )
    assert 0.8 < steps / papers < 1.1  # the rule of the root supposes as many steps


MOCO = ("temperature", "queue_size", "key_momentum", "bn_splits")


@pytest.mark.parametrize(
    ("budget", "model", "base_lr"),
    [
        ("tiny", (0.1, 128, 0.99, 2), 0.24),
        ("demo", (0.1, 256, 0.99, 2), 0.15),
        ("quick", (0.1, 256, 0.99, 2), 0.03),
        ("full", (0.2, 16384, 0.99, 8), 0.03),
        ("long", (0.2, 16384, 0.99, 8), 0.03),
    ],
)
def test_the_values_of_moco(budget: str, model: tuple[float, ...], base_lr: float) -> None:
    """Those of the small budgets stay, because earlier results have them."""
    moco = load_config([*PRETRAIN, "method=moco", f"budget={budget}"]).method
    assert moco and (tuple(moco.model[key] for key in MOCO), moco.optimizer.base_lr) == (model, base_lr)


@pytest.mark.parametrize("budget", budgets())
def test_the_values_of_simclr(budget: str) -> None:
    simclr = load_config([*PRETRAIN, "method=simclr", f"budget={budget}"]).method
    assert simclr and (simclr.model["temperature"], simclr.optimizer.base_lr) == (0.2, 1.2)


@pytest.mark.parametrize("study", studies())
def test_every_study_composes_with_a_data_root(study: str) -> None:
    config = load_config([*PRETRAIN, "method=simclr", f"study={study}", "data.root=/somewhere"])
    assert config.study.name == study
    assert set(config.study.methods) <= {SUPERVISED, *methods()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["stage=pretrain", "method=simclr"], "run_dir must be given"),
        (["run_dir=x", "method=simclr"], "stage must be given"),
        (PRETRAIN, f"needs a method: give method= one of {', '.join(methods())}"),
        ([*PRETRAIN, "method=dino"], f"there is no method dino: give method= one of {', '.join(methods())}"),
        ([*PRETRAIN, "method=simclr", "stage=train"], "stage='train' is not possible"),
        ([*PRETRAIN, "method=simclr", "seed=abc"], "seed='abc' is not possible: input should be a valid integer"),
        ([*PRETRAIN, "method=simclr", "seed=-1"], "seed=-1 is not possible"),
        ([*PRETRAIN, "method=simclr", "seed=4294967296"], "seed=4294967296 is not possible"),
        ([*PRETRAIN, "method=simclr", "method.batch_size=1"], "batch_size=1 is not possible"),
        ([*PRETRAIN, "method=simclr", "method.warmup_epochs=inf"], "warmup_epochs=inf is not possible"),
        (
            [*PRETRAIN, "method=simclr", "sed=1"],
            "there is no field sed .did you mean seed..: look for it in ssl_pkg/conf",
        ),
        ([*PRETRAIN, "method=simclr", "+sed=1"], "there is no field sed"),
        ([*PRETRAIN, "method=simclr", "method.epochs=1.5"], "method.epochs=1.5 is not possible"),
        ([*PRETRAIN, "method=simclr", "method.epochs=0"], "method.epochs=0 is not possible"),
        ([*PRETRAIN, "method=simclr", "budget.resolution=97"], "budget.resolution=97 is not possible"),
        ([*PRETRAIN, "method=simclr", "precision=int8"], "precision='int8' is not possible"),
        ([*PRETRAIN, "method=simclr", "study=photos"], "data.root must be given"),
        (["stage=probe", "run_dir=x"], "needs a model: give source="),
        ([*PRETRAIN, "method=simclr", "source=y"], "leave source out"),
        ([*PRETRAIN, "method=simclr", "seed=["], "can't be read"),
        (["nonsense"], "'nonsense' is not of the form KEY=VALUE, like stage=pretrain"),
        (["pretrain"], "'pretrain' is not of the form KEY=VALUE: give stage=pretrain"),
        (["moco"], "'moco' is not of the form KEY=VALUE: give method=moco"),
        (["--stage=pretrain"], "there is no option --stage=pretrain: give KEY=VALUE"),
        (["--multirun"], "start a sweep by `ssl-study study STUDY KEY=A,B`"),
        (["=3"], "'=3' can't be read: give KEY=VALUE"),
        ([*PRETRAIN, "method=simclrr"], r"no method simclrr \(did you mean simclr\?\): give method= one of byol, moco"),
        ([*PRETRAIN, "method="], "there is no method without a name: give method= one of"),
        ([*PRETRAIN, "method=null"], "method=null is not the name of a preset: give a name"),
        ([*PRETRAIN, "study=dmeo"], r"there is no study dmeo \(did you mean demo\?\)"),
        ([*PRETRAIN, "method=byol", "stage=pretrian"], r"stage='pretrian' is not possible \(did you mean pretrain\?\)"),
        (
            [*PRETRAIN, "method=simclr", "precision=bfloat"],
            r"not possible \(did you mean bfloat16\?\): input should be",
        ),
        ([*PRETRAIN, "method=simclr", "method.temperature=1"], r"\(did you mean method.model.temperature\?\)"),
        ([*PRETRAIN, "method=simclr", "temprature=1"], r"\(did you mean method.model.temperature\?\)"),
        ([*PRETRAIN, "method=simclr", "batch_size=1"], r"\(did you mean width.batch_size, method.batch_size or "),
        ([*PRETRAIN, "method=simclr", "study.method=[simclr]"], r"study.method \(did you mean study.methods\?\)"),
        ([*PRETRAIN, "method=simclr", "finetune.base_lr=1"], r"finetune.base_lr \(did you mean finetune.base_lrs\?\)"),
        ([*PRETRAIN, "method=simclr", "data_root=1"], r"there is no field data_root \(did you mean data.root\?\)"),
        (
            [*PRETRAIN, "method=byol", "method.model.temperature=1"],
            "method byol has no field .*, only moco, simclr: leave",
        ),
        ([*PRETRAIN, "method.epochs=1"], "method.epochs is a field of stage=pretrain with a method: give method= one"),
        (["stage=probe", "method.epochs=1"], "stage=probe does not read method.epochs, a field of stage=pretrain"),
        ([*PRETRAIN, "method=byol", "seed=é"], "'seed=é' can't be read, because 'é' is neither a word, a number nor"),
        ([*PRETRAIN, "method=byol", "seed=1=2"], "'seed=1=2' can't be read"),
        ([*PRETRAIN, "method=byol", "variant=\udce9"], "variant=.*can't be decoded in this locale"),
        ([*PRETRAIN, "method=byol", "device='\udce9'"], "device=.*can't be decoded in this locale"),
        ([*PRETRAIN, "method=byol", "+seed=1"], r"seed already has a value: write seed= without the \+"),
        ([*PRETRAIN, "method=byol", "+budget=tiny"], "budget already has a value: write budget=NAME once"),
        *(
            ([*PRETRAIN, "method=byol", word], "can't be chosen: method and budget choose it")
            for word in ("tuning=byol-full", "+tuning=byol-full", "++tuning=x", "tuning@x=byol-full", "~tuning")
        ),
        ([*PRETRAIN, "method=moco", "budget.bn_splits=4"], r"did you mean method.model.bn_splits\?"),
        ([*PRETRAIN, "method=byol", "hydra.run.dir=x"], "is a setting of Hydra, which has no effect here"),
        (
            [*PRETRAIN, "method=byol,moco"],
            r"`ssl-study study STUDY study.methods=\[byol,moco\]`, or on a cluster by",
        ),
        ([*PRETRAIN, "seed=0,1"], "one stage: start a sweep by `ssl-study study STUDY --seeds '0 1'`"),
        ([*PRETRAIN, "seed=range(0,3)"], "start a sweep by `ssl-study study STUDY --seeds 'A B'`"),
        (
            [*PRETRAIN, "log_every=1,2"],
            r"submit STUDY --cluster NAME log_every=1,2`; a value that is a list is written log_every=\[a,b\]",
        ),
    ],
)
def test_an_error_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        load_config(overrides)
    assert "\n" not in str(caught.value)
    assert "multirun to your" not in str(caught.value)


TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    key=st.sampled_from(["seed", "method.epochs", "data.root", "log_every", "checkpoint", "method", "budget.x", ""]),
    value=TEXT,
)
def test_any_override_is_accepted_or_refused_with_a_sentence(key: str, value: str) -> None:
    try:
        load_config([*PRETRAIN, "method=simclr", f"{key}={value}"])
    except BadInput as error:
        assert str(error)


def test_the_configuration_of_a_run_has_the_fields_that_its_stage_reads() -> None:
    content = load_config(["stage=probe", "run_dir=x", "source=y"]).relevant()
    assert "probe" in content
    assert "finetune" not in content
    assert yaml.safe_load(yaml.safe_dump(content)) == content


def test_configuration_and_run_directories_need_no_torch() -> None:
    script = "import sys, ssl_pkg.config.compose, ssl_pkg.run.directory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_package_itself_imports_nothing() -> None:
    tree = ast.parse(Path(str(ssl_pkg.__file__)).read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("stage=pretrain", "method=simclr", "method.name=byol"),
            "would rename the method: choose a method",
        ),
        (("stage=width", "source=x", "width.landscape_radius=1e300"), "^width: landscape_radius is too large"),
        (("stage=width", "source=x", "width.plane_points=4"), "^width: line_points and plane_points must be odd, so"),
        (("stage=probe", "source=x", "probe.l2_low=2e9"), "^probe: l2_low=2000000000.0 must not be above l2_high=1"),
        (("stage=width", "source=x", "width.batch_size=99999999999999999999"), "batch_size is too large"),
        (("stage=probe", "source=x", "probe.l2_count=20000"), "probe.l2_count=20000 is not possible"),
        (
            ("stage=few_labels", "source=x", "few_labels.labels_per_class=[25,10]"),
            r"^few_labels.labels_per_class=.*25, 10. is not possible: the values must be increasing",
        ),
        (("stage=probe,ood", "source=x"), "runs one stage of one study"),
        (("stage=probe", f"source={'x' * 300}"), "is too long for a path"),
    ],
)
def test_an_impossible_value_is_refused(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        load_config([*words, "run_dir=a", "data.root=b"])


def test_the_configuration_has_the_fields_that_the_stage_reads_of_other_stages() -> None:
    config = load_config(["stage=embed", "source=x", "run_dir=a", "data.root=b", "pretrain.knn_neighbours=3"])
    assert config.relevant()["pretrain"] == {"knn_neighbours": 3, "knn_temperature": 0.07}
    assert "finetune" not in config.relevant()
