import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_pkg.config.compose import load_config
from ssl_pkg.data.images import Split
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.errors import BadInput
from ssl_pkg.stages.artifacts import preprocessing, refuse_other_classes, source_classifier


@pytest.fixture
def small() -> STL10:
    split = Split("train", np.zeros((1, 3, 96, 96), np.uint8), np.zeros(1, np.int64))
    return STL10(split, split, split, (), (), {})


def test_a_final_model_whose_result_lacks_its_adaptation_is_damaged(tmp_path: Path) -> None:
    result = {"model": "simclr-probe", "method": "simclr", "seed": 0, "resolution": 32, "classes": ["a"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    config = load_config(["stage=ood", f"source={tmp_path}", "run_dir=x", "data.root=synthetic"])
    with pytest.raises(BadInput, match="is damaged: it lacks one of model, method, adaptation"):
        source_classifier(config)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (lambda names: names[::-1], "the same names in another order"),
        (lambda names: [*names[:-1], "new"], "lacks c999 and also has new"),
        (lambda names: names[:980], "lacks c980, c981, c982, c983, c984, c985, c986, c987, c988, c989 and 10 more"),
    ],
)
def test_other_classes_are_named_by_their_difference(changed: Any, difference: str, small: STL10) -> None:
    names = [f"c{number:03d}" for number in range(1000)]
    config = load_config(["stage=width", "source=a", "run_dir=x", "data.root=b"])
    refuse_other_classes(config, replace(small, classes=tuple(names)), {"classes": names})
    with pytest.raises(BadInput) as caught:
        refuse_other_classes(config, replace(small, classes=tuple(changed(names))), {"classes": names})
    assert f"trained on ({difference}): give the data.root of the source" in str(caught.value)


@pytest.mark.parametrize("recorded", [{}, {"preparation": None}, {"preparation": {"fit": "stretch"}}])
def test_images_without_a_recorded_preparation_are_cropped(recorded: dict[str, Any]) -> None:
    assert preprocessing(recorded, 64)["photograph"]["fit"] == "crop"
