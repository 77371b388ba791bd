"""Whether digests are what the rows of their commits make.

Digests enter in the order of their commits, beside the audit rows of those; the call returns or raises.
What numbers mean is remembered from one commit to the next. Files are `commitcheck`'s.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.errors import VerificationError
from scalple.store.digest import (
    Digester,
    Facts,
    Meaning,
    Numbered,
    read_any,
    read_meaning,
    read_rows,
    read_since,
    subjects_index,
    subjects_indexes,
)
from scalple.store.digestnames import FACTS, MEASURES, ROWS, SUBJECTS

Known = tuple[int, list[str], list[str], tuple[int, int]]


class Checker:
    """Checks digests, commit by commit in their order."""

    def __init__(self) -> None:
        self._since = -1
        self._statements: list[str] = []
        self._people: list[str] = []

    @cached_property
    def _digester(self) -> Digester:
        return Digester()  # takes a moment, and much that is wrong shows before it is needed

    def check(self, n: int, objects: Mapping[str, bytes], rows: pa.Table) -> None:
        """Returns when these are the digest of commit `n`, which has these audit rows.

        Raises:
            VerificationError: they aren't.
        """
        self.learn(n, objects)
        self.compare(objects, rows)

    def learn(self, n: int, objects: Mapping[str, bytes]) -> None:
        """Takes the facts that commit `n` adds; those of the commits before it must be known.

        Raises:
            VerificationError: they can't be read, or don't continue the numbers known so far.
        """
        since = read_since(pa.BufferReader(objects[ROWS]))
        self._add(n, since, read_meaning(pa.BufferReader(objects[FACTS])))

    def compare(self, objects: Mapping[str, bytes], rows: pa.Table) -> None:
        """Returns when these are the digest of the commit learned last, which has these audit rows.

        Raises:
            VerificationError: they aren't.
        """
        if not read_any(pa.BufferReader(objects[SUBJECTS])).equals(subjects_index(rows)):
            raise VerificationError(f"{SUBJECTS} isn't what the rows say")
        stored = read_rows(pa.BufferReader(objects[ROWS]))
        self._expect_facts(stored.statement, stored.person, self._digester.facts(rows))
        self._expect_measures(stored.measures, rows)

    def check_together(
        self, commits: Sequence[tuple[int, Mapping[str, bytes], int]], rows: pa.Table
    ) -> None:
        """As `check` of each; what a call costs beside the rows is paid once.

        Args:
            commits: number, digest, how many audit rows.
            rows: those of all of them, in order.

        Raises:
            VerificationError: one of them isn't the digest of its rows. What is known is then of no use:
                see `known`.
        """
        counts = [count for _, _, count in commits]
        made, lengths = subjects_indexes(rows, counts)
        stored = [read_any(pa.BufferReader(objects[SUBJECTS])) for _, objects, _ in commits]
        if [one.num_rows for one in stored] != lengths or not pa.concat_tables(stored).equals(made):
            raise VerificationError(f"{SUBJECTS} aren't what the rows say")
        facts, at, begin = self._digester.facts(rows), 0, 0
        some: list[Numbered] = []
        for n, objects, count in commits:
            one = read_rows(pa.BufferReader(objects[ROWS]))
            if one.since == n:  # numbers begin anew
                self._compare(some, rows.slice(begin, at - begin), facts.slice(begin, at - begin))
                some, begin = [], at
            self._add(n, one.since, read_meaning(pa.BufferReader(objects[FACTS])))
            self._expect_known(one, count)
            some.append(one)
            at += count
        self._compare(some, rows.slice(begin), facts.slice(begin, at - begin))

    def _expect_known(self, stored: Numbered, rows: int) -> None:
        """Numbers of facts that come with a later commit mean nothing yet."""
        for numbers, meaning in (
            (stored.statement, self._statements),
            (stored.person, self._people),
        ):
            highest = pc.max(numbers).as_py()
            if len(numbers) != rows or (highest is not None and highest >= len(meaning)):
                raise VerificationError(f"{ROWS}: numbers aren't what the rows say")

    def _compare(self, stored: Sequence[Numbered], rows: pa.Table, facts: Facts) -> None:
        """Of commits in one numbering."""
        if not stored:
            return
        statements = pa.concat_arrays([one.statement for one in stored])
        people = pa.concat_arrays([one.person for one in stored])
        measures = pa.concat_tables([one.measures for one in stored])
        self._expect_facts(statements, people, facts)
        self._expect_measures(measures, rows)

    def _expect_facts(self, statements: pa.Array, people: pa.Array, made: Facts) -> None:
        for name, numbers, meaning, facts in (
            ("statement", statements, self._statements, made.statement),
            ("person", people, self._people, made.person),
        ):
            if not _same(numbers, meaning, facts):
                raise VerificationError(f"{ROWS}: {name} isn't what the rows say")

    def _expect_measures(self, stored: pa.Table, rows: pa.Table) -> None:
        if not stored.equals(rows.select(MEASURES)):
            raise VerificationError(f"{ROWS}: {' or '.join(MEASURES)} isn't what the rows say")

    @property
    def known(self) -> Known:
        """What is known now, to come back to."""
        counts = len(self._statements), len(self._people)
        return self._since, self._statements, self._people, counts

    @known.setter
    def known(self, before: Known) -> None:
        self._since, self._statements, self._people, (statements, people) = before
        del self._statements[statements:]
        del self._people[people:]

    def _add(self, n: int, since: int, meaning: Meaning) -> None:
        if since == n:
            self._since, self._statements, self._people = n, [], []
        if since != self._since:
            raise VerificationError(f"{ROWS}: facts are numbered since {since}, not {self._since}")
        self._statements += meaning.statements
        self._people += meaning.people


def _same(numbers: pa.Array, meaning: list[str], facts: pa.DictionaryArray) -> bool:
    """Row for row the same JSON values, however they are written."""
    if len(numbers) != len(facts) or numbers.null_count:
        return False
    codes = np.asarray(numbers, np.int64)
    if codes.min(initial=0) < 0 or codes.max(initial=-1) >= len(meaning):
        return False
    pairs = np.unique(codes << 32 | np.asarray(facts.indices, np.int64))
    made = facts.dictionary.to_pylist()
    return all(_equal(meaning[one >> 32], made[one & (2**32 - 1)]) for one in pairs.tolist())


def _equal(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        value: Any = json.loads(one)
    except ValueError:
        return False
    return bool(value == json.loads(other))
