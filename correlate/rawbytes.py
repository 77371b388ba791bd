"""Bytes of a server log that couldn't be read, as the record keeps them: without statements.

In: bytes. Out: the same, with statements, details and bind values as `***` from where their line says
that they begin, with what stands between quotes as `***`, and with what a detector recognises masked.
What is left of a statement that is cut off before its first quote, and has neither, stays.
"""

import re

from scalple.correlate import masking

_HIDDEN = masking.REDACTED
# What follows these is a client's words, or repeats them.
_STATEMENT = re.compile(
    r"""(AUDIT:\s++(?>[A-Z]{1,16},\d{0,20},\d{0,20},[A-Z_]{0,16},[A-Z ]{0,40},)?+
         | \b(?:STATEMENT|DETAIL|CONTEXT|QUERY|HINT):\s++
         | \b(?:statement|parse\ [^:]{1,80}|bind\ [^:]{1,80}|execute\ [^:]{1,80}|parameters):\s++
         | "(?:query|statement|detail|message|context|internal_query)"\s*+:\s*+"(?>AUDIT:\s++)?+
       )""",
    re.VERBOSE,
)
_BEGINS_RECORD = re.compile(r'[\[{]?"?\d')


def without_statements(data: bytes) -> bytes:
    """Safe to keep; the log itself, at the offset that is kept beside it, has the rest."""
    text = data.decode("utf-8", "surrogateescape")
    text = masking.scrub(text, is_comment=True)
    if words := _STATEMENT.search(text):
        shown = _without_quoted(text[: words.start()]) + words[1] + _HIDDEN
    else:
        shown = _without_quoted(text)
    return shown.encode("utf-8", "surrogateescape")


def _without_quoted(text: str) -> str:
    head, quote, rest = text.partition("'")
    if not quote:
        return text
    if rest.count("'") % 2:  # whole literals, if the text begins outside one
        return f"{head}'{_HIDDEN}'{rest.rpartition(quote)[2]}"
    return f"{head}'{_HIDDEN}" if _BEGINS_RECORD.match(text) else _HIDDEN
