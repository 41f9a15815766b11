"""Words for what pydantic finds wrong with a value."""


def fault_text(message: str) -> str:
    """Pydantic's message about a value, for people who write YAML, which has lists but no tuples."""
    return message.removeprefix("Value error, ").replace("a valid tuple", "a list, like [a, b]")
