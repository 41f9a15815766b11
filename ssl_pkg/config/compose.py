"""The configuration of a run: composed by Hydra from `ssl_pkg/conf` and the command line, then checked. No torch."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, cast

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from ssl_pkg.catalogue import STAGES
from ssl_pkg.config.overrides import key_of, split_literals
from ssl_pkg.config.presets import methods
from ssl_pkg.config.schema import Config
from ssl_pkg.errors import BadInput, interrupts_first
from ssl_pkg.messages.faults import fault_text
from ssl_pkg.messages.nearest import field_hint, hint

# lines of Hydra's messages that are of no use to a user
_HYDRA_DETAILS: Final = (
    "full_key",
    "object_type",
    "reference_type",
    "Config search path",
    "provider=",
    "See https://hydra",
)

OmegaConf.register_new_resolver("times", lambda one, other: one * other, replace=True)  # YAML has no arithmetic


@interrupts_first()
def load_config(words: Sequence[str]) -> Config:
    """Composes `ssl_pkg/conf` with the overrides of a command line, and validates the result.

    Raises BadInput with one sentence for an unknown key, a wrong type or a value out of range.
    """
    literal, overrides = split_literals(words)
    try:
        for word in overrides:
            _refuse_sweep(word, parse_override(word))
        with initialize_config_module("ssl_pkg.conf", version_base="1.3"):
            composed = compose("config", overrides=[*overrides, *(f"{key}=-" for key in literal)])
        plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        key = str(error.full_key or error).removeprefix("Missing mandatory value: ")
        raise BadInput(f"{key} must be given, like `{key}=…` on the command line") from error
    except RecursionError as error:
        raise BadInput("a value on the command line is nested too deeply") from error
    except (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise BadInput(_one_sentence(str(error), overrides)) from error
    plain.pop("hydra", None)
    for key, value in literal.items():
        section, _, name = key.rpartition(".")
        (plain[section] if section else plain)[name] = value
    try:
        return Config.model_validate_json(json.dumps(plain))  # strict mode takes a list for a tuple only from JSON
    except ValidationError as error:
        raise BadInput(describe_error(error, list(_fields()))) from error


@interrupts_first()
def parse_override(word: str) -> Override:
    """Parses one override of the command line with Hydra's grammar. Raises BadInput."""
    key, equals, value = word.partition("=")
    if word.startswith("-") or not (equals or word.startswith("~")):
        raise BadInput(_no_assignment(word))
    if not re.fullmatch(r"(\+{0,2}|~)[A-Za-z_][\w./@:-]*", key):
        raise BadInput(f"{word!r} can't be read: give KEY=VALUE with a KEY of ssl_pkg/conf")
    try:
        parsed = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise BadInput(
            f"{word!r} can't be read, because {value!r} is neither a word, a number nor a list like [1,2]: quote "
            f"""a value that has special characters, like {key}='"…"'"""
        ) from error
    if key_of(word) in ("method.name", "budget.name"):
        section = key_of(word).partition(".")[0]
        raise BadInput(f"{word!r} would rename the {section}: choose a {section} by {section}=NAME")
    if key_of(word) == "tuning":
        raise BadInput(f"{word!r} can't be chosen: method and budget choose it; set its fields, like method.model.…=")
    if key_of(word).partition(".")[0].partition("/")[0] == "hydra":
        raise BadInput(f"{word!r} is a setting of Hydra, which has no effect here: leave it out")
    return parsed


def describe_error(error: ValidationError, fields: Sequence[str] = ()) -> str:
    """One sentence on pydantic's first error, with the field's name and value.

    fields: the valid names, from which the sentence suggests one for a wrong name.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = fault_text(first["msg"])
    if first["type"] == "extra_forbidden":
        return f"there is no field {where}{field_hint(where, fields)}: look for it in ssl_pkg/conf"
    if first["type"].startswith("missing"):
        return f"{where} must be given"
    if first["type"] == "unexpected_keyword_argument":
        return f"there is no field {where}{field_hint(where, fields)}: look for it in ssl_pkg/conf/method"
    if not where:
        return message
    if isinstance(first["input"], Mapping) and first["type"] == "value_error":  # a section's own validator names fields
        return f"{where}: {message}"
    meant = ""
    if first["type"] == "literal_error":
        meant = hint(str(first["input"]), re.findall("'([^']*)'", first["ctx"]["expected"]))
    return f"{where}={first['input']!r} is not possible{meant}: {message[0].lower()}{message[1:]}"


def refuse_unread(config: Config, words: Sequence[str]) -> None:
    """Raises BadInput if `words` set a field that the stage does not read."""
    for key in map(key_of, words):
        section, dot, _ = key.partition(".")
        if dot and not STAGES[config.stage].reads(key):
            other = "pretrain" if section == "method" else section
            raise BadInput(f"stage={config.stage} does not read {key}, a field of stage={other}: leave it out")


def _refuse_sweep(word: str, parsed: Override) -> None:
    if not parsed.is_sweep_override():
        return
    key, value = key_of(word), word.partition("=")[2]
    if key in ("stage", "study"):
        raise BadInput(f"{word} has several values, but this command runs one stage of one study: give one value")
    values = "A,B" if "(" in value else value
    swept = {"method": f"study.methods=[{values}]", "seed": f"--seeds '{values.replace(',', ' ')}'"}.get(key)
    given = swept or shlex.quote(word)
    single = "" if swept else f"; a value that is a list is written {key}=[a,b]"
    raise BadInput(
        f"{word} has several values, but this command runs one stage: start a sweep by `ssl-study study STUDY "
        f"{given}`, or on a cluster by `ssl-study submit STUDY --cluster NAME {given}`{single}"
    )


def _no_assignment(word: str) -> str:
    if word.startswith("-"):
        sweep = "; start a sweep by `ssl-study study STUDY KEY=A,B`" if word in ("-m", "--multirun") else ""
        return f"there is no option {word}: give KEY=VALUE, as `ssl-study-stage --help` shows{sweep}"
    for key, names in (("stage", STAGES), ("method", methods())):
        if word in names:
            return f"{word!r} is not of the form KEY=VALUE: give {key}={word}"
    return f"{word!r} is not of the form KEY=VALUE, like stage=pretrain"


@cache
@interrupts_first()
def _fields() -> dict[str, list[str]]:
    """Maps each dotted field of `ssl_pkg/conf` to the methods that have the field."""
    found: dict[str, list[str]] = {}
    with initialize_config_module("ssl_pkg.conf", version_base="1.3"):
        for method in methods():
            content = OmegaConf.to_container(compose("config", overrides=[f"method={method}"]), resolve=False)
            for field in _dotted(content):
                found.setdefault(field, []).append(method)
    return found


def _dotted(content: Any, prefix: str = "") -> Iterator[str]:
    if prefix:
        yield prefix
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _dotted(value, f"{prefix}.{name}".lstrip("."))


def _one_sentence(message: str, overrides: Sequence[str]) -> str:
    """One sentence for a user who does not know Hydra, made from Hydra's `message`."""
    lines = [line.strip() for line in message.splitlines()]
    kept = " ".join(line for line in lines if line and not line.startswith(_HYDRA_DETAILS))
    if found := re.search(r"Could not override '(.+?)'", kept):
        return _no_field(found[1], overrides)
    if found := re.search(r"Could not find '(\w+)/(.*?)' Available options in '\w+': (.+)", kept):
        group, name, names = found[1], found[2] or "without a name", found[3].split()
        return f"there is no {group} {name}{hint(name, names)}: give {group}= one of {', '.join(names)}"
    if found := re.search(r"An item is already at '(.+?)'", kept):
        return f"{found[1]} already has a value: write {found[1]}= without the +"
    if found := re.search(r"Multiple values for ([\w/]+)", kept):
        return f"{found[1]} already has a value: write {found[1]}=NAME once, without the +"
    if "Config group override must be" in kept:
        words = (word for word in overrides if not isinstance(parse_override(word).value(), str))
        word = next((word for word in words if key_of(word) in ("method", "budget", "study")), "the command line")
        return f"{word} is not the name of a preset: give a name, like method=simclr"
    return f"ssl_pkg/conf can't be composed with this command line: {kept or 'Hydra gives no reason'}"


def _no_field(name: str, overrides: Sequence[str]) -> str:
    fields = _fields()
    having = fields.get(name, [])
    method = next((word.partition("=")[2] for word in overrides if key_of(word) == "method"), None)
    stage = next((word.partition("=")[2] for word in overrides if key_of(word) == "stage"), "pretrain")
    if having and method is None and stage != "pretrain":
        return f"stage={stage} does not read {name}, a field of stage=pretrain: leave it out"
    if having and method is None:
        return f"{name} is a field of stage=pretrain with a method: give method= one of {', '.join(having)}"
    if having and method not in having:
        return (
            f"method {method} has no field {name}, only {', '.join(having)}: leave it out, or give another method "
            f"(to a study: study.methods=[{','.join(having)}])"
        )
    return f"there is no field {name}{field_hint(name, list(fields))}: look for it in ssl_pkg/conf"
