"""Moments as PostgreSQL keeps them, whole microseconds, and back.

Enters: moments with a time zone, or microseconds since 1970 in UTC. Leaves: the other. Reads no text.
"""

import datetime as dt

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US = dt.timedelta(microseconds=1)


def microseconds(moment: dt.datetime) -> int:
    """Since 1970; what is finer doesn't exist."""
    return (moment - EPOCH) // _US


def moment_of(microseconds: int) -> dt.datetime:
    """That long after 1970, in UTC.

    Raises:
        OverflowError: Python has no such moment.
    """
    return EPOCH + microseconds * _US
