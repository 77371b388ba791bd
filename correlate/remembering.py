"""How late things may be logged, and how long what they may depend on is remembered.

Spans only, each longer than the one before: what a horizon is set back for must still be known.
"""

import datetime as dt

FAR = dt.timedelta(minutes=15)
"""By so much what is logged may lie behind the newest statement."""
GONE_US = (FAR + dt.timedelta(minutes=1)) // dt.timedelta(microseconds=1)
"""Whoever was gone for so long casts no doubt, even if clocks and logs are late; microseconds."""
DOUBTS_KEPT_US = 4 * FAR // dt.timedelta(microseconds=1)
"""So long doubts about pools are known after they are over; microseconds."""
