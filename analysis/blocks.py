"""The building blocks of the report as plain data for report.typ: texts, lists, equations, tables and figures.

Text is never interpreted as markup: a class called `#1 *best*_` is printed exactly so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis.columns import shares

Block = dict[str, Any]


@dataclass
class Section:
    """A heading and the blocks below it. stages: whose runs made the numbers, unless a table or figure names others.

    figures: those of the blocks, each with its folder and name, which `analysis/report.py` saves.
    """

    title: str
    stages: Sequence[str] = ()
    blocks: list[Block] = field(default_factory=list)
    figures: list[tuple[Figure, Path, str]] = field(default_factory=list)

    def include(self, other: "Section") -> None:
        """Adds the blocks of another section."""
        self.blocks += other.blocks
        self.figures += other.figures

    def text(self, text: str) -> None:
        """Adds a paragraph; nothing for an empty text."""
        if text:
            self.blocks.append({"kind": "text", "text": text})

    def note(self, text: str) -> None:
        """Adds a highlighted paragraph."""
        self.blocks.append({"kind": "note", "text": text})

    def items(self, items: Sequence[str], *, size: float = 10) -> None:
        """Adds a bulleted list; nothing without items. size: of the font, in points."""
        if items:
            self.blocks.append({"kind": "items", "items": list(items), "size": size})

    def subheading(self, text: str) -> None:
        """Adds a heading one level below the section's."""
        self.blocks.append({"kind": "heading", "text": text})

    def equation(self, text: str) -> None:
        """Adds a displayed equation in typst's math notation; only for the project's own, as `formula`."""
        self.blocks.append({"kind": "equation", "math": text})

    def table(
        self,
        name: str,
        headings: Sequence[str],
        rows: Sequence[Sequence[str | Block]],
        caption: str,
        *,
        size: float = 8.5,
        left: int = 1,
        widths: Sequence[float] = (),
        stages: Sequence[str] | None = None,
    ) -> None:
        """Adds a table; nothing without rows. The report writes it as tables/NAME.csv, with NAME-2 for a second NAME.

        size: of the font, in points. left: number of left-aligned columns; the others are right-aligned. widths:
        relative widths of the columns, which tables with formulas or commands need; by default from the texts.
        """
        content = {"headings": list(headings), "rows": [list(row) for row in rows]}
        if rows:
            texts = [[cell if isinstance(cell, str) else "" for cell in row] for row in rows]
            layout = {"size": size, "left": left, "widths": list(widths) or shares(headings, texts, size, left)}
            same = sum(block["kind"] == "table" and block["name"] == name for block in self.blocks)
            csv = f"tables/{name}-{same + 1}.csv" if same else f"tables/{name}.csv"
            origin = {"name": name, "csv": csv, "stages": list(self.stages if stages is None else stages)}
            self.blocks.append({"kind": "table", "caption": caption, **origin, **content, **layout})

    def figure(
        self,
        folder: Path,
        name: str,
        figure: Figure | None,
        caption: str,
        reading: str,
        *,
        stages: Sequence[str] | None = None,
    ) -> None:
        """Adds a figure with a caption and a sentence on how to read it; nothing for None. It is saved in `folder`."""
        if figure is not None:
            self.figures.append((figure, folder, name))
            path = (folder / f"{name}.svg").resolve()
            origin = {"csv": f"figures/{name}.csv", "stages": list(self.stages if stages is None else stages)}
            texts = {"caption": caption, "reading": reading}
            self.blocks.append({"kind": "figure", "path": str(path), **texts, **origin})

    def picture(
        self, folder: Path, name: str, png: bytes, caption: str, reading: str, *, stages: Sequence[str]
    ) -> None:
        """Adds a picture like `figure`, from a PNG file's bytes, as wide as the text; it has no numbers."""
        folder.mkdir(parents=True, exist_ok=True)
        path = (folder / f"{name}.png").resolve()
        path.write_bytes(png)
        texts, origin = {"caption": caption, "reading": reading}, {"csv": "", "stages": list(stages)}
        self.blocks.append({"kind": "figure", "path": str(path), **texts, **origin})


def command(text: str) -> Block:
    """A table cell with a command line, printed as it is typed."""
    return {"command": text}


def formula(text: str) -> Block:
    """A table cell in typst's math notation. Only for the project's own formulas, because typst evaluates the text."""
    return {"math": text}
