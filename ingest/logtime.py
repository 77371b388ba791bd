"""Time stamps as PostgreSQL writes them (`2026-11-23 03:49:12.415 CET`) -> UTC microseconds.

The zone is an abbreviation, which names no offset by itself (CST is three zones): UTC and GMT are
taken as such, numeric ones (`-03`, `+0530`) as offsets, anything else only with the time zone
that the operator states (`log_timezone` in postgresql.conf). In the hour that a clock repeats,
the abbreviation says which of the two it is; where the zone has one for both, the order of the
records does. Doesn't read the system's own zone.
"""

import datetime as dt
import re
import zoneinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scalple.ingest.errors import ConfigError, InputError

UTC = pa.timestamp("us", tz="UTC")
_LOCAL_BYTES = len("2026-11-23 03:49:12.415")
ZONE = r"[A-Za-z]{1,10}|[+-]\d\d(?::?\d\d){0,2}"
"""An abbreviation, or an offset in digits, as a regular expression."""
_TIME = rf"^(?P<local>\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{{1,6}})?) (?P<zone>{ZONE})$"
_BACK_US = 20 * 60 * 1_000_000
"""Records of several processes are out of order by less than this."""
_NEVER = -(2**62)
_NUMERIC = re.compile(r"([+-])(\d\d):?(\d\d)?")


class NotATimeError(InputError):
    """A text that should be a time stamp is none: the record around it is torn."""


class LogTimes:
    """Resolves the time stamps of one source.

    Args:
        timezone: the zone's IANA name, or None when not stated.
        place: the source, for messages.

    Raises:
        ConfigError: there is no zone of that name.
    """

    def __init__(self, timezone: str | None, place: str) -> None:
        self._place = place
        self._has_resolved = False
        self._is_second, self._latest_us = False, _NEVER
        self._name = timezone
        try:
            self._zone = zoneinfo.ZoneInfo(timezone) if timezone else None
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(
                f"there is no time zone {timezone!r}",
                hint="give an IANA name such as Europe/Berlin, or UTC",
            ) from error

    def resolve(self, text: pa.Array) -> pa.Array:
        """Times of `text` (no NULLs), in order.

        Raises:
            NotATimeError: one of them is no time.
            InputError: their zone names no offset.
        """
        if not len(text):
            return pa.array([], UTC)
        try:
            resolved = self._resolve(text)
        except pa.ArrowInvalid as error:
            raise NotATimeError(str(error), place=self._place) from error
        self._has_resolved = True
        return resolved

    def _resolve(self, text: pa.Array) -> pa.Array:
        same_zone = _split_same_zone(text)
        if same_zone is not None:
            local, zone = same_zone
            return self._shift(local.cast(pa.string()).cast(pa.timestamp("us")), zone)
        parts = pc.extract_regex(text, _TIME)
        if parts.null_count:
            raise NotATimeError("not a time stamp", place=self._place)
        local = pc.cast(pc.struct_field(parts, "local"), pa.timestamp("us"))
        zones = pc.struct_field(parts, "zone")
        times = pa.nulls(len(text), UTC)
        failed: InputError | None = None
        for zone in pc.unique(zones).to_pylist():
            here = pc.equal(zones, zone)
            try:
                times = pc.if_else(here, self._shift(local, zone, here), times)
                self._has_resolved = True
            except InputError as error:
                failed = error
        if failed is not None:
            raise self._unresolved(failed.what, failed.hint)
        return times

    def _shift(self, local: pa.Array, zone: str, here: pa.Array | None = None) -> pa.Array:
        if zone in ("UTC", "GMT", "Z", "UCT"):
            return local.cast(UTC)
        numeric = _NUMERIC.fullmatch(zone)
        if numeric:
            sign, hours, minutes = numeric.groups()
            seconds = (int(hours) * 3600 + int(minutes or 0) * 60) * (1 if sign == "+" else -1)
            shifted = pc.subtract(local, pa.scalar(dt.timedelta(seconds=seconds)))
            return shifted.cast(UTC)
        if self._zone is None:
            raise self._unresolved(
                f"its times are in {zone!r}, an abbreviation that names no offset by itself",
                hint="give the server's log_timezone with --timezone, such as Europe/Berlin",
            )
        # Only the repeated hour is ambiguous; there the abbreviation decides.
        fold = self._fold(local, zone, here)
        chosen = self._assume(local, fold)
        other = self._assume(local, "latest" if fold == "earliest" else "earliest")
        twice = np.asarray(pc.not_equal(chosen, other).to_numpy(zero_copy_only=False), bool)
        if here is not None:
            twice &= np.asarray(here.to_numpy(zero_copy_only=False), bool)
        if not twice.any() or not self._says_the_same_twice(local, twice):
            self._is_second = False
            return chosen
        return self._by_order(local, twice)

    def _assume(self, local: pa.Array, fold: str) -> pa.Array:
        return pc.assume_timezone(local, self._name, ambiguous=fold, nonexistent="earliest").cast(
            UTC
        )

    def _says_the_same_twice(self, local: pa.Array, twice: npt.NDArray[np.bool_]) -> bool:
        """Whether the zone has one abbreviation on both sides of the repeated hour."""
        when = local[int(np.flatnonzero(twice)[0])].as_py()
        names = {when.replace(tzinfo=self._zone, fold=fold).tzname() for fold in (0, 1)}
        return len(names) == 1

    def _by_order(self, local: pa.Array, twice: npt.NDArray[np.bool_]) -> pa.Array:
        """Records stand in the order in which they were logged: the hour is over once it has begun
        again, which shows by a clock that goes back."""
        clock = np.asarray(local.cast(pa.int64()).to_numpy(), np.int64)
        at = np.flatnonzero(twice)
        latest = np.maximum.accumulate(np.concatenate([[self._latest_us], clock[at]]))
        went_back = (latest[:-1] - clock[at] > _BACK_US) | self._is_second
        second = np.maximum.accumulate(went_back)
        self._is_second, self._latest_us = bool(second[-1]), int(latest[-1])
        is_second = np.zeros(len(clock), bool)
        is_second[at] = second
        return pc.if_else(
            pa.array(is_second), self._assume(local, "latest"), self._assume(local, "earliest")
        )

    def _unresolved(self, what: str, hint: str | None) -> InputError:
        """A whole source in another zone is the operator's to mend; a single record is torn."""
        kind = NotATimeError if self._has_resolved else InputError
        return kind(what, place=self._place, hint=hint)

    def _fold(self, local: pa.Array, zone: str, here: pa.Array | None) -> str:
        assert self._zone is not None
        sample = local if here is None else pc.filter(local, here)
        for when in (pc.min(sample).as_py(), pc.max(sample).as_py()):
            names = [when.replace(tzinfo=self._zone, fold=fold).tzname() for fold in (0, 1)]
            if zone not in names:
                winter = dt.datetime(when.year, 1, 1, tzinfo=self._zone).tzname()
                summer = dt.datetime(when.year, 7, 1, tzinfo=self._zone).tzname()
                if zone not in (winter, summer):
                    raise self._unresolved(
                        f"its times are in {zone!r}, which is not what {self._name} uses",
                        hint="give the server's own log_timezone with --timezone",
                    )
        year = pc.min(sample).as_py().year
        daylight = {
            dt.datetime(year, month, 1, tzinfo=self._zone).tzname()
            for month in (1, 7)
            if dt.datetime(year, month, 1, tzinfo=self._zone).dst()
        }
        return "earliest" if zone in daylight else "latest"


def _split_same_zone(text: pa.Array) -> tuple[pa.Array, str] | None:
    """(local times, zone) if all have the same width and zone, which nearly every block has."""
    width = len(text[0].as_py().encode())
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    if width <= _LOCAL_BYTES + 1 or not np.all(np.diff(offsets) == width):
        return None
    data = np.frombuffer(text.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    rows = data.reshape(-1, width)
    if not np.all(rows[:, _LOCAL_BYTES:] == rows[0, _LOCAL_BYTES:]):
        return None
    zone = re.fullmatch(f" ({ZONE})".encode(), rows[0, _LOCAL_BYTES:].tobytes())
    if zone is None:
        return None
    local = np.ascontiguousarray(rows[:, :_LOCAL_BYTES])
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_LOCAL_BYTES), len(text), [None, pa.py_buffer(local)]
    )
    return fixed.cast(pa.binary()), zone[1].decode()
