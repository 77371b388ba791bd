"""pgAudit's PARAMETER field as lists of bind values.

In: the field after one level of CSV unquoting, NULL when nothing was logged. Out: one list per
row; an empty element stays the empty string, because pgAudit writes NULL and '' alike. Follows
append_valid_csv() of pgaudit.c. Doesn't know which statement a list belongs to.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_VALUE = re.compile(r'(?:"((?>[^"]|"")*+)"|([^,]*+))(?:,|\Z)')


def split(column: pa.Array) -> pa.Array:
    """`list<string>` of a string column."""
    lists = pc.split_pattern(column, ",")
    quoted = pc.fill_null(pc.match_substring(column, '"'), False)
    if not pc.any(quoted).as_py():
        return lists
    exact = column.filter(quoted).dictionary_encode()
    parsed = pa.array([split_text(t) for t in exact.dictionary.to_pylist()], lists.type)
    index = np.arange(len(column))
    where = np.flatnonzero(quoted.to_numpy(zero_copy_only=False))
    index[where] = len(column) + exact.indices.to_numpy()
    return pa.concat_arrays([lists, parsed]).take(pa.array(index))


def split_text(text: str) -> list[str]:
    """The values of one field; text that isn't as pgAudit writes it is cut at its commas."""
    values, at = [], 0
    while match := _VALUE.match(text, at):
        values.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
        if at == match.start() or (at == len(text) and text[-1:] != ","):
            return values
        if at == len(text):
            return [*values, ""]
    return text.split(",")
