"""Whether a run directory may be gone on with: its configuration and its inputs must be the ones that it began with.

Imports no torch, so that a complete run answers at once.
"""

from pathlib import Path
from typing import Any, Final

from ssl_pkg.cache import synthetic_set
from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config import SYNTHETIC, Config
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.manifest import md5

# A run may be gone on with that differs in these. Where data and source lie is free, what they hold is not: `inputs`.
FREE: Final = ("run_dir", "source", "checkpoint", "study", "variant", "data", "world_size")
RESOLVED: Final = ("threads", "precision", "device", "inputs")  # known only after torch and the data are loaded


def content_of(config: Config, data: dict[str, Any], **resolved: Any) -> dict[str, Any]:
    """What `config.yaml` holds: the fields that the stage reads, and the digests of what it reads them for.

    data: the manifest of the images. resolved: the values that `auto` stood for.
    """
    inputs: dict[str, Any] = {name: entry["md5"] or entry["bytes"] for name, entry in data["files"].items()}
    if config.source not in (None, RANDOM):
        inputs["source"] = _weights(config)
    return config.relevant() | resolved | {"inputs": inputs}


def refuse_difference(run: RunDirectory, content: dict[str, Any], free: tuple[str, ...] = FREE) -> None:
    """Raises BadInput, showing the difference, if the run was started with another configuration or other inputs."""
    earlier = run.config()
    if earlier is None:
        if (run.path / "config.yaml").exists():
            raise BadInput(f"{run.path / 'config.yaml'} is damaged: put it right, or give another run_dir")
        return
    before, now = (_flat({k: v for k, v in c.items() if k not in free}) for c in (earlier, content))
    keys = sorted(before.keys() | now.keys(), key=lambda key: (key != "method.name", key))
    changed = [key for key in keys if before.get(key) != now.get(key)]
    if "method.name" in changed:  # its other fields follow from it
        changed = ["method.name"]
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:4])
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise BadInput(
            f"{run.path} was started with another configuration ({shown}{more}): go on with the same one, "
            "or give another run_dir"
        )


def refuse_other_source(run: RunDirectory, config: Config) -> None:
    """Raises BadInput if the complete `run` was made from other weights than `config.source` has now.

    A source that is gone is no objection: a complete run needs it no more.
    """
    inputs = (run.config() or {}).get("inputs")
    if config.source is None or not isinstance(inputs, dict):
        return
    now = _weights(config)
    if inputs.get("source") != now and (now is not None or config.source == RANDOM):
        raise BadInput(
            f"{run.path} is complete, but from other weights than those of source={config.source}: give the run_dir of "
            f"another run, or remove {run.path} to make it anew"
        )


def refuse_lost_weights(run: RunDirectory) -> None:
    """Raises BadInput if the complete `run` has lost the weights that it made."""
    if (run.result() or {}).get("weights_sha256") and not any(run.path.glob("*.safetensors")):
        raise BadInput(
            f"{run.path} is complete, but its weights are gone: put them back, or remove {run.path} to make it anew"
        )


def refuse_other_data(run: RunDirectory, config: Config) -> None:
    """Raises BadInput if the complete `run` saw other images than those that `config.data.root` has now.

    A folder that is gone is no objection.
    """
    root = config.data.root
    there = other_data(run, root) if root == SYNTHETIC or Path(root).is_dir() else None
    if there:
        raise BadInput(
            f"{run.path} is complete, but on other images ({there}, now data.root={root}): give another run_dir, or "
            f"remove {run.path} to make it anew"
        )


def other_data(run: RunDirectory, root: str) -> str | None:
    """Which images `run` saw, if it saw others than those below `root`: by the md5 of the files, or by their size where
    they were too large for one."""
    seen = (run.provenance() or {}).get("data") or {}
    folder = synthetic_set() if root == SYNTHETIC else Path(root)
    if root == SYNTHETIC and not folder.is_dir():  # not generated yet
        other = bool(seen) and seen.get("name") != SYNTHETIC
    else:
        other = any(not _same(folder / name, entry) for name, entry in (seen.get("files") or {}).items())
    if not other:
        return None
    return "the synthetic images" if seen.get("name") == SYNTHETIC else str(seen.get("root"))


def _same(file: Path, entry: dict[str, Any]) -> bool:
    """Whether the file is the one that a manifest's entry describes."""
    if not file.is_file() or file.stat().st_size != entry["bytes"]:
        return False
    return entry.get("md5") is None or md5(file) == entry["md5"]


def _weights(config: Config) -> str | None:
    """The digest of the weights that `source` has now; None where there are none, as of RANDOM."""
    if config.source in (None, RANDOM):
        return None
    digest = (RunDirectory(Path(str(config.source))).result() or {}).get("weights_sha256")
    return digest if isinstance(digest, str) else None


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one level of dotted keys."""
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
