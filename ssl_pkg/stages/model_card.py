"""MODEL_CARD.md, written beside exported weights: what they are, how to load them, and what they were made with.

The header is the YAML of Hugging Face's model cards (https://huggingface.co/docs/hub/model-cards).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from ssl_pkg.data.image_files import CROP, PAD
from ssl_pkg.rows import Row, dimensions_of

MODEL_CARD: Final = "MODEL_CARD.md"
LICENSE: Final = "mit"  # of this project's code and of the weights, as an identifier of Hugging Face's hub
_ORIGIN: Final = {
    "STL-10": "STL-10 by Coates, Ng and Lee (https://cs.stanford.edu/~acoates/stl10)",
    "synthetic": "synthetic images of coloured shapes, so the weights are of no use for photographs",
    "stand-in": "files in the layout of STL-10 that are not STL-10",
}
_FIT: Final = {  # by the preparation of photographs: in words, and the function of ImageOps
    CROP: ("its centre square is kept", "fit"),
    PAD: ("it is padded with black to a square", "pad"),
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
    photograph, resolution = facts["photograph"], facts["resolution"]
    (fit, function), side = _FIT[photograph["fit"]], photograph["side"]
    build, outputs = f"resnet18(num_classes={len(classes)})", "one logit for each class, in the order below"
    if kind == "an encoder":
        build, outputs = "resnet18()\nmodel.fc = Identity()", "embeddings (n, 512)"
    names = "\n".join(f"{number} {name}" for number, name in enumerate(classes))
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---
# {facts["model"]}: ResNet-18

`{file}` holds {kind}: torchvision's ResNet-18{" without its last layer" if kind == "an encoder" else ""}, made by the
stage `{facts["stage"]}` with the method `{facts["method"]}` and seed {facts["seed"]}.

## Use

```python
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch.nn import Identity
from torchvision.models import resnet18  # timm.create_model("resnet18") has the same names
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, resize

weights = load_file("{file}")
model = {build}
model.load_state_dict(weights)
model.eval()


def prepare(file):  # a photograph -> (1, 3, {resolution}, {resolution})
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    image = ImageOps.{function}(image, ({side}, {side}), Image.Resampling.BICUBIC)
    x = resize(pil_to_tensor(image)[None] / 255, [{resolution}, {resolution}], antialias=True)
    return normalize(x, {list(facts["mean"])}, {list(facts["std"])})


# model(prepare("photograph.jpg")): {outputs}
```

| input | |
| --- | --- |
| photograph | turned as its EXIF data say; transparent pixels become white; {fit}; \
{photograph["interpolation"]}, to {side} x {side} pixels |
| size | then {resolution} x {resolution} pixels; resize {facts["resize"]} |
| channels | {facts["channels"]}, in this order |
| range | {facts["range"]} |
| mean | {", ".join(map(str, facts["mean"]))} |
| standard deviation | {", ".join(map(str, facts["std"]))} |

## Classes

```text
{names}
```

## Training

| | |
| --- | --- |
| images | {_ORIGIN.get(facts["data"], _cell(facts["data"]))} |
| commit | {facts["commit"]} |
| versions | {versions} |
| computed on | {_cell(made_with["hardware"]["name"])}, {made_with["hardware"]["precision"]} |

`config.yaml` and `provenance.json` in the run directory have all settings and the digests of the images.

## Results

{_table(measured)}

An interval has a confidence of 95 %. Accuracies are fractions.

## Licence

Code and weights: MIT. The images have their own terms of use.
""".encode()


def _cell(text: str) -> str:
    """The text without a meaning in Markdown, for a cell of a table."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


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
