"""Whether it was the time that a rule is about.

Enters: times of the week and moments. Leaves: yes or no, worked out once per minute that occurs. Zones
and their changes of clocks are Arrow's; those that moved their clocks by seconds (before 1972) aren't
told apart below the minute.
"""

from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.correlate.logbatch import numbers
from scalple.correlate.policyrules import MINUTES_A_DAY, Hours
from scalple.correlate.policyterms import NO, YES

_MINUTE_US = 60_000_000
_FIRST = date(1970, 1, 1)
_THURSDAY = 3  # the first day of 1970


def hours_answers(hours: Hours, log_time: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Per row whether it is within the time, or outside if that is what the rule says."""
    times = numbers(log_time.cast(pa.int64()), 0)
    minutes, place = np.unique(times // _MINUTE_US, return_inverse=True)
    moments = pa.array(minutes * _MINUTE_US, pa.timestamp("us", tz=hours.timezone))
    local = pc.local_timestamp(moments).cast(pa.int64()).to_numpy() // _MINUTE_US
    day, minute = np.divmod(local, MINUTES_A_DAY)
    if hours.begin < hours.end:
        inside = _begins(hours, day) & (hours.begin <= minute) & (minute < hours.end)
    else:
        inside = _begins(hours, day) & (hours.begin <= minute)
        inside |= _begins(hours, day - 1) & (minute < hours.end)
    return np.where(inside != hours.outside, YES, NO).astype(np.uint8)[place]


def _begins(hours: Hours, day: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """On which days it begins."""
    holidays = [(date.fromisoformat(one) - _FIRST).days for one in hours.holidays]
    weekday = (day + _THURSDAY) % 7
    return np.asarray(np.isin(weekday, hours.days) & ~np.isin(day, holidays))
