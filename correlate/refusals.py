r"""What the server says of a statement that it refused, where its words name objects only.

In: messages and their states. Out: the message, or nothing: others may quote what the client wrote, or
are a function's own words (RAISE … USING ERRCODE), which may name anybody.
"""

import re

from scalple.correlate import masking

_OBJECT = (
    r"(?:(?:foreign |materialized |large )?(?:table|view|object|server)|relation|sequence|index|schema"
    r"|database|function|procedure|routine|aggregate|language|type|domain|tablespace|parameter|column"
    r"|foreign-data wrapper|operator(?: class| family)?|conversion|collation|publication"
    r"|subscription|statistics object|text search (?:configuration|dictionary)|extension|policy"
    r"|trigger|rule|system catalog|event trigger|role)"
)
_FORMS = {
    "42501": re.compile(
        rf"permission denied for {_OBJECT} \S+|must be owner of {_OBJECT} \S+"
        r"|permission denied(?:: \"[^\"]*\" is a system catalog)?|must be superuser to [a-z ]+"
        r"|permission denied to [a-z -]+(?: \"[^\"]*\")?|must have [a-z]+ privilege [a-z ]+"
        r"|new row violates row-level security policy(?: \"[^\"]*\")? for table \"[^\"]*\""
    ),
    "42883": re.compile(
        r"(?:function|operator|procedure|routine|aggregate) .{1,2000} does not exist", re.DOTALL
    ),
}


def telling(message: str | None, state: str | None) -> str | None:
    """The message if it is one of the server's own that name objects only; otherwise None."""
    form = _FORMS.get(state or "")
    if message is None or form is None or not form.fullmatch(message):
        return None
    return masking.scrub(message)
