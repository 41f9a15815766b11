import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from ssl_pkg.errors import BadInput
from ssl_pkg.models.encoder import build_encoder
from ssl_pkg.run.weights import FACTS, load_into, load_weights, save_weights, weights_sha256


def test_saved_encoder_loads_into_torchvisions_plain_resnet18(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_encoder().eval()
    save_weights(tmp_path / "encoder.safetensors", encoder, {"method": "x"})
    plain = resnet18()
    missing, unexpected = plain.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=False)
    assert missing == ["fc.weight", "fc.bias"]
    assert unexpected == []
    plain.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(plain.eval()(images), encoder(images))


def test_saved_weights_have_metadata_and_are_reproducible_bytes(tmp_path: Path) -> None:
    facts = {"method": "x", "resolution": 96, "classes": ["cat", "dog"]}
    linear = torch.nn.Linear(2, 2)
    for number in range(20):
        save_weights(tmp_path / f"{number}.safetensors", linear, facts)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", framework="pt") as content:
        metadata = json.loads(content.metadata()[FACTS])
        assert content.metadata()["format"] == "pt"
    assert metadata == facts | {"weights_sha256": weights_sha256(linear.state_dict())}


def test_a_flipped_bit_of_the_weights_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_weights(file, torch.nn.Linear(2, 2), {})
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadInput, match="checksum does not match"):
        load_weights(file)


def test_weights_without_a_checksum_are_an_error(tmp_path: Path) -> None:
    save_file(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="checksum does not match"):
        load_weights(tmp_path / "a.safetensors")


def test_missing_damaged_or_other_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="can't be read as safetensors"):
        load_weights(tmp_path / "bad.safetensors")
    with pytest.raises(BadInput, match="does not hold torchvision's ResNet-18"):
        load_into(build_encoder(), {"x": torch.zeros(1)}, tmp_path / "x")


def test_the_digest_depends_on_the_names_of_the_tensors_and_not_on_their_order() -> None:
    one, two = torch.zeros(2), torch.ones(2)
    digest = weights_sha256({"a": one, "b": two})
    assert weights_sha256({"b": two, "a": one}) == digest
    assert weights_sha256({"a": one, "c": two}) != digest
