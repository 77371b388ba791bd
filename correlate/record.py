"""The columns of `recordcolumns` as Arrow has them."""

import pyarrow as pa

from scalple.correlate import recordcolumns
from scalple.ingest.columntypes import TEXTS as TEXTS_TYPE
from scalple.ingest.columntypes import Columns
from scalple.ingest.records import ARROW

TEXTS = ARROW[TEXTS_TYPE]
SUBJECT = pa.struct([pa.field(name, ARROW[kind]) for name, kind in recordcolumns.SUBJECT])
_TYPES = ARROW | {recordcolumns.SUBJECTS: pa.list_(pa.field("item", SUBJECT))}


def schema(columns: Columns) -> pa.Schema:
    """Arrow's schema of such columns."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns])


KINDS: dict[str, pa.Schema] = {
    kind: schema(columns) for kind, columns in recordcolumns.KINDS.items()
}
AUDIT = KINDS["audit"]
EVIDENCE = KINDS["evidence"]
DENIED = KINDS["denied"]
GAPS = KINDS["gaps"]
UNPARSED = KINDS["unparsed"]
REVISIONS = KINDS["revisions"]
ACCESS = KINDS["access"]
ATTRIBUTION = [(name, _TYPES[kind]) for name, kind in recordcolumns.ATTRIBUTION]
