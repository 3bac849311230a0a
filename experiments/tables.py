"""Aligned text tables and the formats of their numbers, the same wherever they are printed."""

from html import escape


def preformatted(text: str) -> str:
    """Text as HTML that keeps its lines and columns: what a notebook shows of a fit."""
    return f'<pre style="line-height:1.3">{escape(text)}</pre>'


def table(rows: list[list[str]]) -> str:
    """Rows of cells, header first, as aligned columns: the first to the left, others right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 7.5 min, 2.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
