"""Words for what pydantic finds wrong with a value."""

import re


def fault_text(message: str) -> str:
    """Pydantic's message about a value, in the words of YAML, not Python's (tuple) or JSON's (array, object)."""
    message = re.sub(r"\ba valid (tuple|array)", "a list, like [a, b]", message.removeprefix("Value error, "))
    return re.sub(r"\bshould be an object$", "should be a mapping, like {a: b}", message)
