"""Whether digests are what the rows of their commits make.

Digests enter in the order of their commits, beside the audit rows of those; the call returns or raises.
What numbers mean is remembered from one commit to the next. Files are `commitcheck`'s.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from scalple.ingest.errors import VerificationError
from scalple.store.digest import (
    Digester,
    Meaning,
    read_any,
    read_meaning,
    read_rows,
    read_since,
    subjects_index,
)
from scalple.store.digestnames import FACTS, MEASURES, ROWS, SUBJECTS


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
        made = self._digester.facts(rows)
        for name, numbers, meaning, facts in (
            ("statement", stored.statement, self._statements, made.statement),
            ("person", stored.person, self._people, made.person),
        ):
            if not _same(numbers, meaning, facts):
                raise VerificationError(f"{ROWS}: {name} isn't what the rows say")
        if not stored.measures.equals(rows.select(MEASURES)):
            raise VerificationError(f"{ROWS}: {' or '.join(MEASURES)} isn't what the rows say")

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
