"""MODEL_CARD.md, written beside exported weights: what they are, how to load them, and what they were made with.

The header is the YAML of Hugging Face's model cards (https://huggingface.co/docs/hub/model-cards).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from ssl_pkg.rows import Row, dimensions_of

MODEL_CARD: Final = "MODEL_CARD.md"
LICENSE: Final = "mit"  # of this project's code and of the weights, as an identifier of Hugging Face's hub
_ORIGIN: Final = {
    "STL-10": "STL-10 by Coates, Ng and Lee (https://cs.stanford.edu/~acoates/stl10)",
    "synthetic": "synthetic images of coloured shapes, so the weights are of no use for photographs",
    "stand-in": "files in the layout of STL-10 that are not STL-10",
}


def model_card(file: str, facts: Mapping[str, Any], made_with: Mapping[str, Any], rows: Sequence[Row]) -> bytes:
    """The text of the card of the weights in `file`, in UTF-8.

    facts: of the file's metadata. made_with: content of provenance.json. rows: of result.json.
    """
    classes, adaptation = facts["classes"], facts["adaptation"]
    measured = [row for row in rows if row["value"] is not None and not dimensions_of(row)]
    header = {
        "license": LICENSE,
        "library_name": "pytorch",
        "pipeline_tag": "image-feature-extraction" if facts["stage"] == "pretrain" else "image-classification",
        "tags": ["resnet18", "self-supervised-learning", facts["method"]],
        "model-index": [{"name": facts["model"], "results": _results(facts, measured)}],
    }
    kind = f"a classifier of {len(classes)} classes" if adaptation or facts["stage"] != "pretrain" else "an encoder"
    versions = ", ".join(f"{name} {version}" for name, version in made_with["versions"].items())
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---
# {facts["model"]}: ResNet-18

`{file}` holds {kind}: torchvision's ResNet-18{" without its last layer" if kind == "an encoder" else ""}, made by the
stage `{facts["stage"]}` with the method `{facts["method"]}` and seed {facts["seed"]}.

## Use

```python
from safetensors.torch import load_file
from torch.nn import Identity
from torchvision.models import resnet18  # timm.create_model("resnet18") has the same names

weights = load_file("{file}")
model = resnet18({"" if kind == "an encoder" else f"num_classes={len(classes)}"})
{"model.fc = Identity()" if kind == "an encoder" else "# outputs: one logit for each class, in the order below"}
model.load_state_dict(weights)
model.eval()
```

| input | |
| --- | --- |
| size | {facts["resolution"]} x {facts["resolution"]} pixels; resize {facts["resize"]} |
| channels | {facts["channels"]}, in this order |
| range | {facts["range"]} |
| mean | {", ".join(map(str, facts["mean"]))} |
| standard deviation | {", ".join(map(str, facts["std"]))} |
| classes | {", ".join(classes)} |

## Training

| | |
| --- | --- |
| images | {_ORIGIN.get(facts["data"], facts["data"])} |
| commit | {facts["commit"]} |
| versions | {versions} |
| computed on | {made_with["hardware"]["name"]}, {made_with["hardware"]["precision"]} |

`config.yaml` and `provenance.json` in the run directory have all settings and the digests of the images.

## Results

{_table(measured)}

An interval has a confidence of 95 %. Accuracies are fractions.

## Licence

Code and weights: MIT. The images have their own terms of use.
""".encode()


def _table(rows: Sequence[Row]) -> str:
    lines = ["| evaluation | metric | value | interval | n |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        interval = "" if row["low"] is None or row["high"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        lines.append(f"| {row['evaluation']} | {row['metric']} | {row['value']:.4g} | {interval} | {row['n']} |")
    return "\n".join(lines)


def _results(facts: Mapping[str, Any], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The accuracies for the header's `model-index`."""
    metrics = [
        {"type": "accuracy", "name": row["evaluation"], "value": row["value"]}
        for row in rows
        if row["metric"] == "accuracy"
    ]
    dataset = {"name": facts["data"], "type": "-".join(re.findall(r"\w+", facts["data"].lower()))}
    return [{"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}] if metrics else []
