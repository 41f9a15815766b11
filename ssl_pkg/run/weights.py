"""Files of weights: safetensors, with the digest of the weights in the metadata."""

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

FACTS: Final = "ssl-study"  # key of the weights' metadata
DIGEST: Final = "weights_sha256"


def save_weights(path: Path, module: nn.Module, facts: Mapping[str, object]) -> None:
    """Writes the state dict as safetensors, atomically.

    The file's metadata has two keys: `format`, which is "pt" (accelerate and transformers refuse a file without it),
    and FACTS, a JSON object of `facts` and the weights' digest, which safetensors itself does not store.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    told = json.dumps({**facts, DIGEST: weights_sha256(state)})
    write_atomic(path, *_in_order(save(state, metadata={"format": "pt", FACTS: told})))


def _in_order(content: bytes) -> tuple[bytes, bytes]:
    """Header and tensors of a safetensors file, the metadata's keys sorted: the library writes them in a random order,
    and equal runs must leave equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text, content[8 + size :]


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BadInput where it is missing or damaged."""
    try:
        content = path.read_bytes()  # not safe_open, which maps the file: some file systems can't
        state = load(content)
        facts = json.loads(_metadata(content).get(FACTS, "{}"))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: finish the run that makes it first") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"{path} can't be read as safetensors ({error}): make it again") from error
    told = facts.get(DIGEST) if isinstance(facts, dict) else None
    if told not in (None, weights_sha256(state)):
        raise BadInput(f"{path} is damaged, for its weights' checksum does not hold: make it again")
    return state


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: it begins with a header in JSON, and that with its length in 8 bytes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Digest over the weights' bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_into(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Loads `state`, read from `path`, into `module`. Raises BadInput if names or shapes differ."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{path} does not hold torchvision's ResNet-18 with the expected last layer") from error
