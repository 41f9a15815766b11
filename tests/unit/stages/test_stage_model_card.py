"""Exported weights can be used by what their model card and the README say."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from ssl_pkg.augment.views import resize
from ssl_pkg.data.image_files import preparation, read_images
from ssl_pkg.rows import Row, row
from ssl_pkg.run.weights import save_weights
from ssl_pkg.stages.artifacts import preprocessing
from ssl_pkg.stages.model_card import MODEL_CARD, model_card

MADE_WITH = {"versions": {"torch": "2"}, "hardware": {"name": "a CPU", "precision": "float32"}}


CLASSES = ["Łódź: cat", "dog", "a|b", "c, d", "*e* <f> ```"]


def facts(stage: str, adaptation: str | None, pad: bool = False, data: str = "stand-in") -> dict[str, Any]:
    model = f"simclr-{adaptation}" if adaptation else "simclr"
    known = {
        "model": model,
        "stage": stage,
        "method": "simclr",
        "adaptation": adaptation,
        "seed": 0,
        "data": data,
    }
    prepared = preprocessing({"preparation": preparation(96, pad=pad)}, 32)
    return known | {"classes": CLASSES, "commit": "abc"} | prepared


def exported(folder: Path, stage: str, pad: bool = False) -> tuple[nn.Module, str]:
    """Weights with random values and their card in `folder`. Returns the network and the card's text."""
    torch.manual_seed(0)
    network = resnet18(num_classes=len(CLASSES))
    name = "model.safetensors"
    if stage == "pretrain":
        network.fc, name = nn.Identity(), "encoder.safetensors"
    rows: list[Row] = [row("test", "accuracy", 0.75, 8, (0.4, 0.9))]
    known = facts(stage, None if stage == "pretrain" else "probe", pad)
    save_weights(folder / name, network, known)
    (folder / MODEL_CARD).write_bytes(model_card(name, known, MADE_WITH, rows))
    return network.eval(), (folder / MODEL_CARD).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "pad", "channels"), [("pretrain", True, 3), ("probe", False, 3), ("probe", False, 4), ("probe", True, 2)]
)
def test_the_cards_code_loads_the_weights_and_prepares_photographs(
    stage: str, pad: bool, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, card = exported(tmp_path, stage, pad)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL)), found)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(found["model"](images), network(images))
    noise = np.random.default_rng(0).integers(0, 256, (150, 400, channels), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(noise).save("photograph.png", exif=exif)
    (pixels,) = read_images([Path("photograph.png")], 96, pad=pad)
    assert isinstance(pixels, np.ndarray)
    expected = resize(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], 32)
    prepared = found["prepare"]("photograph.png")
    assert prepared.shape == (1, 3, 32, 32)
    torch.testing.assert_close(prepared, expected.contiguous(), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_readmes_lines_load_a_final_model_into_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs/mine/probe").mkdir(parents=True)
    network, _ = exported(tmp_path / "runs/mine/probe", "probe")
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (lines,) = (code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import timm" in code)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(found["model"].eval()(images), network(images))
    assert "timm" in sys.modules


def test_hugging_face_reads_the_cards_header(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    exported(tmp_path, "probe")
    data = ModelCard.load(tmp_path / MODEL_CARD).data
    assert (data.library_name, data.pipeline_tag) == ("pytorch", "image-classification")
    (result,) = data.eval_results
    assert (data.model_name, result.metric_type, result.metric_value) == ("simclr-probe", "accuracy", 0.75)


IMAGENET = ("other", "imagenet", "https://www.image-net.org/download.php")


@pytest.mark.parametrize(
    ("data", "source", "expected", "words"),
    [
        ("synthetic", None, ("mit", None, None), "The weights: MIT"),
        ("STL-10", None, IMAGENET, "allow non-commercial research and education"),
        ("synthetic", "STL-10", IMAGENET, "allow non-commercial research and education"),
        ("own images (photos)", None, (None, None, None), "add it as `license:` to the header"),
        ("own images (synthetic)", None, (None, None, None), "add it as `license:` to the header"),
        ("synthetic", "own images (photos)", (None, None, None), "add it as `license:` to the header"),
        ("stand-in", "synthetic", (None, None, None), "add it as `license:` to the header"),
    ],
)
def test_the_licence_of_weights_is_that_which_their_images_allow(
    data: str, source: str | None, expected: tuple[str | None, ...], words: str
) -> None:
    from huggingface_hub import ModelCard

    known = facts("probe", "probe", data=data) | ({"source_data": source} if source else {})
    text = model_card("model.safetensors", known, MADE_WITH, []).decode()
    card = ModelCard(text).data
    assert (card.license, card.license_name, card.license_link) == expected
    (words_of_licence,) = re.findall(r"## Licence\n\n(.*)", text, re.DOTALL)
    assert words in words_of_licence
    assert ("weights: MIT" in words_of_licence) == (expected[0] == "mit")
    assert ("| images of the encoder |" in text) == (source is not None)


def test_the_card_names_everything_that_images_need(tmp_path: Path) -> None:
    _, card = exported(tmp_path, "probe")
    for text in (
        "to 96 x 96 pixels",
        "then 32 x 32 pixels",
        "its centre square is kept",
        "RGB, in this order",
        "```text\n0 Łódź: cat\n1 dog\n2 a|b\n3 c, d\n4 *e* <f> ```\n```\n",
        "commit | abc",
        "0.75 | 0.4 to 0.9 | 8",
    ):
        assert text in card


def test_a_name_can_not_break_the_cards_table() -> None:
    known = facts("probe", "probe") | {"data": "own images (a|b *c*)"}
    card = model_card("model.safetensors", known, MADE_WITH, []).decode()
    assert "| images | own images (a\\|b \\*c\\*) |\n" in card
