"""The documents name messages, files and commands that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])


@cache
def texts_of_the_code() -> str:
    """All texts in the code, one a line. A value in an f-string is shown as `…`."""
    texts = []
    for file in [PROJECT / "install.py", *(f for name in ("ssl_pkg", "jobs") for f in PROJECT.glob(f"{name}/**/*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in texts)


def messages() -> list[str]:
    """The messages in the first column of the FAQ's tables."""
    faq = (PROJECT / "docs/faq.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", faq, re.MULTILINE)


def test_messages_are_found() -> None:
    assert len(messages()) > 30


@pytest.mark.parametrize("message", messages())
def test_each_message_of_the_faq_is_one_of_the_code(message: str) -> None:
    longest = max(re.split(r"…|[^\w -]", message), key=len).strip()  # words without a value
    assert len(longest) > 10
    assert longest in texts_of_the_code()


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_each_link_leads_to_a_file(file: Path) -> None:
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\[[^]]*\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (file.parent / target).exists(), target
