"""Weights in safetensors files, with a digest in the metadata."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import write_atomic

FACTS: Final = "ssl-study"  # the metadata key of this project's facts about the weights
DIGEST: Final = "weights_sha256"


def save_weights(path: Path, module: nn.Module, facts: Mapping[str, object]) -> None:
    """Writes the module's state dict as safetensors, atomically.

    The file's metadata has two keys: `format` with the value "pt", without which accelerate and transformers refuse the
    file, and FACTS with a JSON object of `facts` and the weights' digest.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    content = save(state, metadata={"format": "pt", FACTS: json.dumps({**facts, DIGEST: weights_sha256(state)})})
    write_atomic(path, *_with_sorted_metadata(content))


def _with_sorted_metadata(content: bytes) -> tuple[bytes, bytes]:
    """Header and tensors of a safetensors file, with sorted metadata keys. The library writes the keys in a random
    order, and equal runs must write equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text, content[8 + size :]


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name, on the CPU. Raises BadInput if the file is missing or damaged."""
    try:
        content = path.read_bytes()  # not safe_open, because some file systems can't map files
        state = load(content)
        facts = _facts(content)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: finish the run that writes it first") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"{path} can't be read as safetensors ({error}): run its stage again") from error
    if facts.get(DIGEST) != weights_sha256(state):
        raise BadInput(f"{path} is damaged, because its weights' checksum does not match: run its stage again")
    return state


def load_facts(path: Path) -> dict[str, Any]:
    """The facts in the metadata of a file that `load_weights` can read."""
    with path.open("rb") as file:
        size = file.read(8)
        return _facts(size + file.read(int.from_bytes(size, "little")))


def _facts(content: bytes) -> dict[str, Any]:
    """FACTS of a safetensors file, which starts with the length of a JSON header in 8 bytes, and the header."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    facts = json.loads(header.get("__metadata__", {}).get(FACTS, "{}"))
    return facts if isinstance(facts, dict) else {}


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_into(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Loads `state`, which was read from `path`, into `module`. Raises BadInput if names or shapes differ."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{path} does not hold torchvision's ResNet-18 with the expected last layer") from error
