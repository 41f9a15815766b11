"""The configuration of a run: composed by Hydra from `ssl_pkg/conf` and the command line, then checked. No torch."""

import re
from typing import Any, Final, cast

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from ssl_pkg.config import Config
from ssl_pkg.errors import BadInput

# lines of Hydra's messages that say nothing to a user
_HYDRAS_OWN: Final = (
    "full_key",
    "object_type",
    "reference_type",
    "Config search path",
    "provider=",
    "See https://hydra",
)

OmegaConf.register_new_resolver("times", lambda one, other: one * other, replace=True)  # YAML has no arithmetic


def load_config(overrides: list[str]) -> Config:
    """Composes the packaged tree with the command line's `overrides` and checks the result.

    Raises BadInput, in one sentence, for an unknown key, a wrong type or an impossible value.
    """
    try:
        with initialize_config_module("ssl_pkg.conf", version_base="1.3"):
            composed = compose("config", overrides=overrides)
        # strict validation knows tuples only from JSON, and YAML has none: lists become tuples on the way
        plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        key = str(error.full_key or error).removeprefix("Missing mandatory value: ")
        raise BadInput(f"{key} must be given, like `{key}=…` on the command line") from error
    except RecursionError as error:
        raise BadInput("a value on the command line is nested too deeply") from error
    except (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise BadInput(_one_sentence(str(error))) from error
    plain.pop("hydra", None)
    try:
        return Config.model_validate(_tuples(plain))
    except ValidationError as error:
        raise BadInput(describe(error)) from error


def describe(error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence with the field's name and what was found there."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no field {where}: look for it in ssl_pkg/conf"
    if first["type"].startswith("missing"):
        return f"{where} must be given"
    if first["type"] == "unexpected_keyword_argument":
        return f"there is no field {where}: look for it in ssl_pkg/conf/method"
    if not where:
        return message
    return f"{where}={first['input']!r} is not possible: {message[0].lower()}{message[1:]}"


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(entry) for entry in value)
    return value


def _one_sentence(message: str) -> str:
    """What Hydra says, in the words of somebody who does not know Hydra."""
    lines = [line.strip() for line in message.splitlines()]
    kept = " ".join(line for line in lines if line and not line.startswith(_HYDRAS_OWN))
    if found := re.search(r"Could not override '(.+?)'", kept):
        return f"there is no field {found[1]}: look for it in ssl_pkg/conf"
    if found := re.search(r"Could not find '(\w+)/(.+?)' Available options in '\w+': (.+)", kept):
        return f"there is no {found[1]} {found[2]}: give {found[1]}= one of {', '.join(found[3].split())}"
    if found := re.search(r"(no viable alternative at input|Error parsing override|missing EQUAL).*", kept):
        return f"the command line can't be read ({found[0]}): give KEY=VALUE, with quotes inside quotes where it must"
    return kept or "the configuration can't be composed"
