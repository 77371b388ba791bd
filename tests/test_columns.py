"""A table that isn't for a terminal is drawn as rich draws it, whatever it holds."""

import io
import os
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.cli import columns, render

WORDS = st.text("ab ,.\n\u00e9\u2026\t\x1b", max_size=60)
LONG = st.integers(0, 300).map(
    lambda n: "SELECT id, email FROM public.users "[n % 30 :] * (n // 30)
)
CELLS = st.one_of(
    WORDS, LONG, st.none(), st.integers(-(10**12), 10**12), st.lists(WORDS, max_size=3)
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[str], list[str] | None]:
    """Rows, the names of their columns, and which of these fold."""
    names = draw(st.lists(st.sampled_from(["a", "log_id", "one of them", "x y z"]), min_size=1))
    names = [f"{name} {n}" for n, name in enumerate(names[:13])]
    kinds = [draw(st.sampled_from([CELLS, st.integers(0, 10**6), WORDS, LONG])) for _ in names]
    rows = draw(st.lists(st.tuples(*kinds), min_size=1, max_size=4))
    folding = draw(st.none() | st.lists(st.sampled_from(names), unique=True))
    return [dict(zip(names, row, strict=True)) for row in rows], names, folding


def by_rich(rows: list[dict[str, Any]], names: list[str], **options: Any) -> str:
    """What rich draws."""
    with mock.patch.object(render, "drawn", return_value=None):
        return by_us(rows, names, **options)


def by_us(rows: list[dict[str, Any]], names: list[str], **options: Any) -> str:
    """What we draw."""
    out = io.StringIO()
    with mock.patch.dict(os.environ):
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)
        render.write_table(rows, names, out, **options)
    return out.getvalue()


@settings(max_examples=80, deadline=None)
@given(tables(), st.none() | st.just("Direct (2)"))
def test_it_is_drawn_as_rich_draws_it(
    table: tuple[list[dict[str, Any]], list[str], list[str] | None], title: str | None
) -> None:
    rows, names, folding = table
    expected = by_rich(rows, names, title=title, folding=folding)
    assert by_us(rows, names, title=title, folding=folding) == expected


@pytest.mark.parametrize("letter", ["漢", "é", "👩‍🚀", "a\u0301"])
def test_letters_of_other_widths_are_left_to_rich(letter: str) -> None:
    cell = columns.Column(["heading", f"x{letter}y"], False, True)
    drawn = columns.drawn([cell], None, 120)
    assert (drawn is None) == (letter != "é")
    assert by_us([{"a": letter}], ["a"]) == by_rich([{"a": letter}], ["a"])


def test_every_letter_that_we_draw_is_one_column_wide() -> None:
    from rich.cells import cell_len

    narrow = [chr(n) for n in range(0x11_0000) if columns._NARROW.fullmatch(chr(n))]
    assert len(narrow) > 700
    assert all(cell_len(letter) == 1 for letter in narrow if letter != "\n")


def test_a_word_between_colons_is_no_picture() -> None:
    for drawn in (by_us, by_rich):
        assert ":key: ':on:'" in drawn([{"what": ":key: ':on:'"}], ["what"])
