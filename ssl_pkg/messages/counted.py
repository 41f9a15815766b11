"""Numbers of things in messages: `1 file`, `2 files`."""


def counted(number: int, one: str, many: str = "") -> str:
    """The number with its noun, or with `many` for other numbers than one: `counted(1, "run was", "runs were")`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
