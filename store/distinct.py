"""Rows that agree in several columns, found without looking at the columns' values row by row.

Columns enter; per row the number of its combination leaves, and per combination its first row.
Lists are compared through random numbers of 64 bits drawn anew for each call, so that nobody can
make two that seem alike, and chance doesn't in the life of a store; everything else is exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.store.bare import bare

Numbers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Distinct:
    """Which rows are alike.

    Attributes:
        codes: per row the number of its combination, from 0.
        first: per combination the row where it first occurs.
    """

    codes: pa.Array
    first: Numbers


def distinct(columns: Iterable[pa.ChunkedArray], rows: int) -> Distinct:
    """Combinations of values; NULL is a value, and equal to itself."""
    random = np.random.default_rng()
    marks = [_marks(column, random) for column in columns]
    while True:
        mixed = np.zeros(rows, np.uint64)
        for one in marks:
            mixed += one * random.integers(0, 2**64, None, np.uint64)
        coded = bare(mixed).dictionary_encode()
        codes = coded.indices.to_numpy()
        first = np.zeros(len(coded.dictionary), np.int64)
        first[codes[::-1]] = np.arange(rows - 1, -1, -1)
        same = first[codes]
        if all(np.array_equal(one, one[same]) for one in marks):  # no two were mixed alike
            return Distinct(coded.indices, first)


def _marks(column: pa.ChunkedArray, random: "np.random.Generator") -> Marks:
    """Per row a number that stands for its value."""
    array = _one(column)
    if pa.types.is_list(array.type):
        return _of_lists(array, random)
    marks: Marks = _codes(array).astype(np.uint64)
    return marks


def _of_lists(array: pa.ListArray, random: "np.random.Generator") -> Marks:
    codes = _codes(array.flatten())
    drawn = random.integers(0, 2**64, int(codes.max(initial=0)) + 1, np.uint64)[codes]
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
    ends = np.cumsum(lengths)
    # The same items in another order are another list: each counts by its place.
    places = np.arange(len(codes)) - np.repeat(ends - lengths, lengths)
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(drawn * (2 * places + 1).astype(np.uint64), out=sums[1:])
    marks: Marks = sums[ends] - sums[ends - lengths]
    marks[np.asarray(array.is_null())] = random.integers(0, 2**64, None, np.uint64)
    return marks


def _codes(array: pa.Array) -> npt.NDArray[np.int32]:
    """Per item the number of its value; NULL has one too."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    null = pa.scalar(len(array.dictionary), array.indices.type)
    return np.asarray(pc.fill_null(array.indices, null), np.int32)


def _one(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece."""
    if column.num_chunks == 1:
        return column.chunk(0)
    kind = column.type
    if pa.types.is_dictionary(kind):
        if pa.types.is_list(kind.value_type):  # Arrow can't unite these
            chunks = [chunk.dictionary_decode() for chunk in column.chunks]
            return pa.chunked_array(chunks, kind.value_type).combine_chunks()
        column = column.unify_dictionaries()
    return column.combine_chunks()
