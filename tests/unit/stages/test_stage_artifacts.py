import json
from pathlib import Path

import pytest

from ssl_pkg.compose import load_config
from ssl_pkg.errors import BadInput
from ssl_pkg.stages.artifacts import source_classifier


def test_a_final_model_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    result = {"model": "simclr-probe", "method": "simclr", "seed": 0, "resolution": 32, "classes": ["a"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    config = load_config(["stage=ood", f"source={tmp_path}", "run_dir=x", "data.root=synthetic"])
    with pytest.raises(BadInput, match="made by an earlier version"):
        source_classifier(config)
