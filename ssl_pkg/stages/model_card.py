"""MODEL_CARD.md, written beside exported weights: what they are, how to load them, and what they were made with.

The header is the YAML of Hugging Face's model cards (https://huggingface.co/docs/hub/model-cards).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from ssl_pkg.data.image_files import CROP, PAD
from ssl_pkg.rows import Row, dimensions_of
from ssl_pkg.run.manifest import STAND_IN, STL10_NAME, SYNTHETIC_NAME

MODEL_CARD: Final = "MODEL_CARD.md"
_ORIGIN: Final = {
    STL10_NAME: "STL-10 by Coates, Ng and Lee (https://cs.stanford.edu/~acoates/stl10)",
    SYNTHETIC_NAME: "synthetic images of coloured shapes, so the weights are of no use for photographs",
    STAND_IN: "files in the layout of STL-10 that are not STL-10",
}
_FIT: Final = {  # by the preparation of photographs: in words, and the function of ImageOps
    CROP: ("its centre square is kept", "fit"),
    PAD: ("it is padded with black to a square", "pad"),
}

_IMAGENET: Final = "https://www.image-net.org/download.php"


def licence(facts: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The licence of weights with these facts: in the fields of Hugging Face's hub, and in words.

    It follows from the images of the training and, if these differ, of the encoder's. The fields are empty for own
    images and stand-ins, whose terms are unknown.
    """
    data = {facts["data"], facts.get("source_data", facts["data"])}
    if data == {SYNTHETIC_NAME}:
        return {"license": "mit"}, "The weights: MIT, because this project has generated the images."
    if data <= {SYNTHETIC_NAME, STL10_NAME}:
        return {"license": "other", "license_name": "imagenet", "license_link": _IMAGENET}, (
            f"The authors of STL-10 publish no licence. The images are from ImageNet, whose terms\n({_IMAGENET}) allow "
            "non-commercial research and education. Use the weights for these only."
        )
    return {}, (
        "The licence of the weights is for the owner of the images to choose, and depends on the terms of these. None "
        "has\nbeen chosen yet: before you publish the weights, add it as `license:` to the header of this file."
    )


def model_card(file: str, facts: Mapping[str, Any], made_with: Mapping[str, Any], rows: Sequence[Row]) -> bytes:
    """The text of the card of the weights in `file`, in UTF-8.

    facts: of the file's metadata. made_with: content of provenance.json. rows: of result.json.
    """
    classes, is_encoder = facts["classes"], facts["stage"] == "pretrain"
    measured = [row for row in rows if row["value"] is not None and not dimensions_of(row)]
    header = {
        **licence(facts)[0],
        "library_name": "pytorch",
        "pipeline_tag": "image-feature-extraction" if is_encoder else "image-classification",
        "tags": ["resnet18", "self-supervised-learning", facts["method"]],
        "model-index": [{"name": facts["model"], "results": _results(facts, measured)}],
    }
    kind = "an encoder" if is_encoder else f"a classifier of {len(classes)} classes"
    versions = ", ".join(f"{name} {version}" for name, version in made_with["versions"].items())
    photograph, resolution = facts["photograph"], facts["resolution"]
    (fit, function), side = _FIT[photograph["fit"]], photograph["side"]
    build, outputs = f"resnet18(num_classes={len(classes)})", "one logit for each class, in the order below"
    if is_encoder:
        build, outputs = "resnet18()\nmodel.fc = Identity()", "embeddings (n, 512)"
    names = "\n".join(f"{number} {name}" for number, name in enumerate(classes))
    return f"""---
{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---
# {facts["model"]}: ResNet-18

`{file}` holds {kind}: torchvision's ResNet-18{" without its last layer" if is_encoder else ""}, made by the
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
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
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
| images | {_origin(facts["data"])} |{_source(facts)}
| commit | {facts["commit"]} |
| versions | {versions} |
| computed on | {_cell(made_with["hardware"]["name"])}, {made_with["hardware"]["precision"]} |

`config.yaml` and `provenance.json` in the run directory have all settings and the digests of the images.

## Results

{_table(measured)}

An interval has a confidence of 95 %. Accuracies are fractions.

## Licence

The code above: MIT. {licence(facts)[1]}
""".encode()


def _origin(data: str) -> str:
    return _ORIGIN.get(data, _cell(data))


def _source(facts: Mapping[str, Any]) -> str:
    """The table's row on the images of the encoder's training, if they differ from those of this one."""
    return f"\n| images of the encoder | {_origin(facts['source_data'])} |" if "source_data" in facts else ""


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
