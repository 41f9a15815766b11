"""Whether a run may be resumed, or counts as complete, with the configuration and the inputs of this command line.

Imports no torch, so that a command on a complete run returns at once.
"""

from pathlib import Path
from typing import Any, Final

from ssl_pkg.cache import synthetic_set
from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config.schema import SYNTHETIC, Config
from ssl_pkg.errors import BadInput, reading
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.manifest import SYNTHETIC_NAME, md5

RUN_FORMAT: Final = 4  # raised whenever a run that an earlier version began can't be resumed
# Fields in which a resumed run may differ. Data and source may move, but not change: `inputs` has their digests.
FREE: Final = ("run_dir", "source", "checkpoint", "study", "variant", "data", "world_size")
RESOLVED: Final = ("threads", "precision", "device", "inputs")  # known only after torch and the data are loaded


def free_when_complete(config: Config) -> tuple[str, ...]:
    """The fields in which `config` may differ from a complete run: FREE, and those that only a start resolves."""
    return (*FREE, *(name for name in RESOLVED if name != "precision" or config.precision == "auto"))


def recorded_config(config: Config, data: dict[str, Any], **resolved: Any) -> dict[str, Any]:
    """The content of `config.yaml`: the fields that the stage reads, the digests of its inputs, the format's version.

    data: the manifest of the images. resolved: the values that `auto` stands for.
    """
    inputs: dict[str, Any] = {name: entry["md5"] or entry["bytes"] for name, entry in data["files"].items()}
    if config.source not in (None, RANDOM):
        inputs["source"] = _source_digest(config)
    return config.relevant() | resolved | {"inputs": inputs, "run_format": RUN_FORMAT}


def refuse_difference(run: RunDirectory, content: dict[str, Any], free: tuple[str, ...] = FREE) -> None:
    """Raises BadInput if the run was begun by an earlier version, with another configuration or with other inputs."""
    earlier = run.config()
    if earlier is None:
        if (run.path / "config.yaml").exists():
            raise BadInput(f"{run.path / 'config.yaml'} is damaged: restore it, or give another run_dir")
        return
    if earlier.get("run_format") != RUN_FORMAT:
        raise BadInput(
            f"{run.path} was made by an earlier version of this project: give another run_dir (to a study, another "
            "folder with --runs), or remove it to run its stage again"
        )
    ignored = {*free, "run_format"}
    before, now = (_flat({k: v for k, v in c.items() if k not in ignored}) for c in (earlier, content))
    keys = sorted(before.keys() | now.keys())
    changed = [key for key in keys if before.get(key) != now.get(key)]
    for key in ("stage", "method.name"):
        if key in changed:  # other fields follow from it
            changed = [key]
            break
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:4])
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise BadInput(
            f"{run.path} was started with another configuration ({shown}{more}): use the same one, "
            "or give another run_dir"
        )


def refuse_other_source(run: RunDirectory, config: Config) -> None:
    """Raises BadInput if the complete `run` started from other weights than `config.source` has now.

    A missing source is accepted, because a complete run no longer needs it.
    """
    inputs = (run.config() or {}).get("inputs")
    if config.source is None or not isinstance(inputs, dict):
        return
    now = _source_digest(config)
    if inputs.get("source") != now and (now is not None or config.source == RANDOM):
        raise BadInput(
            f"{run.path} is complete, but from other weights than those of source={config.source}: "
            f"give another run_dir, or remove {run.path} to run it again"
        )


def refuse_lost_weights(run: RunDirectory) -> None:
    """Raises BadInput if the complete `run` has lost the weights that it wrote."""
    if (run.result() or {}).get("weights_sha256") and not any(run.path.glob("*.safetensors")):
        raise BadInput(
            f"{run.path} is complete, but its weights are missing: restore them, or remove {run.path} to run it again"
        )


def refuse_other_data(run: RunDirectory, config: Config) -> None:
    """Raises BadInput if the complete `run` used other images than those in `config.data.root` now.

    A missing folder is accepted.
    """
    root = config.data.root
    with reading(Path(root)):
        other = other_data(run, root) if root == SYNTHETIC or Path(root).is_dir() else None
    if other:
        raise BadInput(
            f"{run.path} is complete, but on other images ({other}, now data.root={root}): give another run_dir, or "
            f"remove {run.path} to run it again"
        )


def other_data(run: RunDirectory, root: str) -> str | None:
    """The images that `run` used, in words, if they differ from those in `root`; otherwise None.

    Files are compared by md5, and by size if they were too large for an md5. Raises BadInput if they can't be read.
    """
    used = (run.provenance() or {}).get("data") or {}
    folder = synthetic_set() if root == SYNTHETIC else Path(root)
    if root == SYNTHETIC and not folder.is_dir():  # not generated yet
        differs = bool(used) and used.get("name") != SYNTHETIC_NAME
    else:
        with reading(folder):
            differs = any(not _same(folder / name, entry) for name, entry in (used.get("files") or {}).items())
    if not differs:
        return None
    return "the synthetic images" if used.get("name") == SYNTHETIC_NAME else str(used.get("root"))


def _same(file: Path, entry: dict[str, Any]) -> bool:
    """Whether the file has the size and the md5 of a manifest's entry."""
    if not file.is_file() or file.stat().st_size != entry["bytes"]:
        return False
    return entry.get("md5") is None or md5(file) == entry["md5"]


def _source_digest(config: Config) -> str | None:
    """The digest of the source's weights; None for RANDOM and for a source without a result."""
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
