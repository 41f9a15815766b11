"""The run that `source` names: its result, and the values that a stage inherits from it. Imports no torch."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config.compose import describe_error
from ssl_pkg.config.schema import Config
from ssl_pkg.errors import BadInput
from ssl_pkg.run.compatibility import other_data
from ssl_pkg.run.directory import RunDirectory


def source_result(config: Config) -> dict[str, Any]:
    """The content of result.json of the run that `source` names. Raises BadInput if it is missing or incomplete."""
    source = RunDirectory(Path(str(config.source)))
    result = source.result()
    if result is None:
        if not source.path.is_dir():
            raise BadInput(f"there is no run directory source={source.path}: give the directory of a complete run")
        raise BadInput(f"source={source.path} has no result.json: finish that run first")
    if config.method is not None and config.method.name != result.get("method"):
        raise BadInput(
            f"method={config.method.name} contradicts source={source.path}, a run of {result.get('method')}: "
            f"leave method out"
        )
    kinds = {"model": str, "method": str, "adaptation": str | None, "seed": int, "resolution": int, "classes": list}
    if not all(key in result and isinstance(result[key], kind) for key, kind in kinds.items()):
        raise BadInput(f"{source.path / 'result.json'} is damaged: it lacks one of {', '.join(kinds)}")
    return result


def inherit(config: Config, given: Collection[str], run: RunDirectory) -> Config:
    """Returns `config` with the seed and the resolution of its source.

    given: the fields on the command line. Raises BadInput if one of them contradicts the source.
    run: the run itself, whose result has the values if it is complete and its source is missing.
    """
    if config.source in (None, RANDOM):
        return config
    found = RunDirectory(Path(str(config.source))).result() or run.result() or {}
    content = config.model_dump()
    for key, section, name in (("seed", content, "seed"), ("budget.resolution", content["budget"], "resolution")):
        value = found.get(name, section[name])
        if key in given and section[name] != value:
            raise BadInput(
                f"{key}={section[name]} contradicts source={config.source}, whose {name} is {value}: leave {key} out"
            )
        section[name] = value
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"the result.json of source={config.source} is damaged: {describe_error(error)}") from error


def other_source_data(config: Config) -> str | None:
    """The images that the source was made from, in words, if they differ from those in `data.root`; otherwise None."""
    if config.source in (None, RANDOM):
        return None
    return other_data(RunDirectory(Path(str(config.source))), config.data.root)
