"""Suggestions for misspelt names."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def hint(name: str, valid: Iterable[str], prefix: str = "") -> str:
    """` (did you mean simclr?)`, with `prefix` before the name, or an empty string if no valid name is similar."""
    return _question([f"{prefix}{near}" for near in get_close_matches(name, list(valid), n=1)])


def field_hint(name: str, valid: Sequence[str]) -> str:
    """`hint` for a dotted field. A near name in its section comes first, then the same last part in another one."""
    lasts = {field: field.rpartition(".")[2] for field in valid if not name.startswith(f"{field}.")}
    section, _, last = name.rpartition(".")
    beside = {lasts[field]: field for field in lasts if section and field == f"{section}.{lasts[field]}"}
    if close := get_close_matches(last, beside, n=1, cutoff=0.75):
        return _question([beside[close[0]]])
    same = [field for field in lasts if lasts[field] == last]
    if same:
        return _question(get_close_matches(name, same, n=3, cutoff=0))
    near = get_close_matches(name, lasts, n=1, cutoff=0.75)
    if not near and (close := get_close_matches(last, lasts.values(), n=1, cutoff=0.75)):
        near = [field for field in lasts if lasts[field] == close[0]][:3]
    return _question(near)


def _question(names: Sequence[str]) -> str:
    *most, last = names or [""]
    return f" (did you mean {', '.join(most)}{' or ' if most else ''}{last}?)" if last else ""
