"""Rows of text -> a table with lines around its columns, character for character as rich draws it.

Enters: a title, headings and cells. Leaves: text, or nothing where rich has to draw: letters that aren't
one column wide. Loading rich and drawing a hundred rows with it takes as long as finding them, and an
answer that isn't for a terminal needs none of its colours. `tests/test_columns.py` compares both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NARROW = re.compile("[ -~\xa1-\xac\xae-\u02ff\u2026\ufffd\n]*")
"""Letters that are one column wide in every terminal, and ends of lines."""
_WORD = re.compile(r"\s*\S+\s*")
_BLANK_END = re.compile(r"\s+$")
_BESIDE = 2
"""Columns of a cell that aren't text: a blank on each side."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        cells: heading first.
        is_right: numbers end below each other.
        folds: where room is short, it gives way.
    """

    cells: Sequence[str]
    is_right: bool
    folds: bool


def drawn(columns: Sequence[Column], title: str | None, width: int) -> str | None:
    """The table, no wider than `width`, or None if rich must draw it."""
    every = [cell for column in columns for cell in column.cells]
    if title is not None:
        every.append(title)
    if not all(map(_NARROW.fullmatch, every)) or (title and "\n" in title):
        return None
    widths = _widths(columns, width - len(columns) - 1)
    if min(widths) <= _BESIDE:
        return None
    cells = [_laid_out(one, at) for one, at in zip(columns, widths, strict=True)]
    lines = [] if title is None else [title]
    lines.append(_rule("┏━┳┓", widths))
    for n, row in enumerate(zip(*cells, strict=True)):
        lines += _row(row, widths, "┃" if n == 0 else "│", at_bottom=n == 0)
        if n == 0:
            lines.append(_rule("┡━╇┩", widths))
    lines.append(_rule("└─┴┘", widths))
    return "".join(f"{line}\n" for line in lines)


def _widths(columns: Sequence[Column], room: int) -> list[int]:
    """Of each column with what is beside its text; the widest ones that fold give way first."""
    natural = [min(_widest(column.cells) + _BESIDE, room) for column in columns]
    widths = [one or 1 for one in natural]
    if sum(widths) <= room:
        return widths
    widths = _folded(widths, [column.folds for column in columns], room)
    if sum(widths) > room:
        widths = _reduced(sum(widths) - room, [1] * len(widths), widths, widths)
    return [min(one, width) for one, width in zip(natural, widths, strict=True)]


def _widest(cells: Sequence[str]) -> int:
    return max(len(line) for cell in cells for line in cell.splitlines() or [""])


def _folded(widths: list[int], folds: Sequence[bool], room: int) -> list[int]:
    while (excess := sum(widths) - room) > 0 and any(folds):
        mine = [width if fold else 0 for width, fold in zip(widths, folds, strict=True)]
        most = max(mine)
        step = most - max(one if one != most else 0 for one in mine)
        if not step:
            break
        ratios = [int(one == most and fold) for one, fold in zip(mine, folds, strict=True)]
        widths = _reduced(excess, ratios, [min(excess, step)] * len(widths), widths)
    return widths


def _reduced(total: int, ratios: list[int], most: list[int], values: list[int]) -> list[int]:
    """The values less `total`, which is shared out by ratio."""
    ratios = [ratio if limit else 0 for ratio, limit in zip(ratios, most, strict=True)]
    parts = sum(ratios)
    if not parts:
        return values
    found = []
    for ratio, limit, value in zip(ratios, most, values, strict=True):
        less = min(limit, round(ratio * total / parts)) if ratio else 0
        found.append(value - less)
        total -= less
        parts -= ratio
    return found


def _laid_out(column: Column, width: int) -> list[list[str]]:
    """Per cell its lines, each as wide as the text may be."""
    room = width - _BESIDE
    found = []
    for cell in column.cells:
        lines = cell.split("\n")
        if column.folds:
            lines = [part for line in lines for part in _broken(line, room)]
        if column.is_right:
            found.append([line.rstrip()[:room].rjust(room) for line in lines])
        else:
            found.append([line[:room].ljust(room) for line in lines])
    return found


def _broken(line: str, width: int) -> list[str]:
    """A line in pieces that are no wider: between words, and inside those that are wider alone."""
    if len(line) <= width:
        return [line]
    breaks, used = [], 0
    for match in _WORD.finditer(line):
        start, word = match.start(), match[0]
        length = len(word.rstrip())
        if length <= width - used:
            used += len(word)
        elif length > width:
            pieces = [word[at : at + width] for at in range(0, len(word), width)]
            breaks += [at for at in range(start, start + len(word), width) if at]
            used = len(pieces[-1])
        elif used and start:
            breaks.append(start)
            used = len(word)
    parts = [line[a:b] for a, b in zip([0, *breaks], [*breaks, len(line)], strict=True)]
    return [_without_blanks(one, width) for one in parts]


def _without_blanks(line: str, width: int) -> str:
    """Without the blanks at its end that are too many."""
    excess = len(line) - width
    if excess > 0 and (blanks := _BLANK_END.search(line)):
        return line[: len(line) - min(len(blanks[0]), excess)]
    return line


def _rule(pieces: str, widths: Sequence[int]) -> str:
    left, line, between, right = tuple(pieces)
    return left + between.join(line * width for width in widths) + right


def _row(
    cells: Sequence[list[str]], widths: Sequence[int], edge: str, *, at_bottom: bool
) -> list[str]:
    height = max(map(len, cells))
    filled = []
    for lines, width in zip(cells, widths, strict=True):
        blank = [" " * (width - _BESIDE)] * (height - len(lines))
        filled.append([*blank, *lines] if at_bottom else [*lines, *blank])
    return [f"{edge} {f' {edge} '.join(parts)} {edge}" for parts in zip(*filled, strict=True)]
