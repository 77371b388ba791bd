"""Time stamps: two forms of one instant are one instant; an ambiguous zone is asked for, not guessed."""

import datetime as dt
import zoneinfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalple.ingest.errors import ConfigError, InputError
from scalple.ingest.logtime import LogTimes, NotATimeError

ZONES = ["Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "America/New_York", "UTC"]


def resolve(timezone: str | None, *texts: str) -> list[dt.datetime]:
    """The instants of these texts."""
    return list(LogTimes(timezone, "test").resolve(pa.array(texts, pa.string())).to_pylist())


def written(moment: dt.datetime, zone: str) -> str:
    """As PostgreSQL writes it: local time, whole milliseconds, the zone's abbreviation."""
    local = moment.astimezone(zoneinfo.ZoneInfo(zone))
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03} {local.tzname()}"


MOMENTS = st.datetimes(
    dt.datetime(2001, 1, 1), dt.datetime(2037, 1, 1), timezones=st.just(dt.UTC)
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))


@settings(max_examples=200, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=5), st.sampled_from(ZONES))
def test_what_was_written_in_a_zone_is_read_back(moments: list[dt.datetime], zone: str) -> None:
    for moment in moments:  # one at a time: a log doesn't hold decades
        assert resolve(zone, written(moment, zone)) == [moment]


@settings(max_examples=60, deadline=None)
@given(st.datetimes(dt.datetime(2026, 3, 28), dt.datetime(2026, 3, 30), timezones=st.just(dt.UTC)))
def test_a_block_over_the_change_of_clocks(start: dt.datetime) -> None:
    start = start.replace(microsecond=0)
    for spring in (start, start + dt.timedelta(days=210)):  # and 2026-10-25, with its double hour
        moments = [spring + dt.timedelta(minutes=20 * n) for n in range(30)]
        texts = [written(moment, "Europe/Berlin") for moment in moments]
        assert resolve("Europe/Berlin", *texts) == moments


@pytest.mark.parametrize("zone", ["UTC", "GMT", "+00", "-00:00", "+0000"])
def test_utc_needs_no_configuration(zone: str) -> None:
    assert resolve(None, f"2026-11-23 03:49:12.415 {zone}") == [
        dt.datetime(2026, 11, 23, 3, 49, 12, 415000, dt.UTC)
    ]


@pytest.mark.parametrize(("zone", "minutes"), [("-03", -180), ("+0530", 330), ("+05:45", 345)])
def test_numeric_zones_are_offsets(zone: str, minutes: int) -> None:
    (moment,) = resolve(None, f"2026-11-23 12:00:00.000 {zone}")
    assert moment == dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC) - dt.timedelta(minutes=minutes)


def test_an_abbreviation_alone_names_no_offset() -> None:
    with pytest.raises(InputError, match="CST"):
        resolve(None, "2026-11-23 03:49:12.415 CST")


def test_an_abbreviation_of_another_zone_is_refused() -> None:
    with pytest.raises(InputError, match="Europe/Berlin"):
        resolve("Europe/Berlin", "2026-11-23 03:49:12.415 PST")


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        LogTimes("Europe/Atlantis", "test")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2026-11-23 03:49:12.415",
        "2026-11-23 03:49:12.415 ",
        "2026-13-45 03:49:12.415 UTC",
        "2026-02-30 03:49:12.415 UTC",
        "2026-11-23 25:49:12.415 UTC",
        "2026-11-23 03:49:12.4152026-11-23 03:49:12.415 UTC",
        "2026-11-23 03:49:12.415 2026-11-23 03:49:12.415 UTC",
        "2026-11-23 03:49:12.415 UT\u00e9",
        "2026-11-23 03:49:12.415 UTC\n",
    ],
)
@pytest.mark.parametrize("beside", [[], ["2026-11-23 03:49:12.415 UTC"]])
def test_a_torn_stamp_is_no_time(text: str, beside: list[str]) -> None:
    with pytest.raises(NotATimeError):
        resolve(None, *beside, text)


def test_mixed_zones_in_one_block() -> None:
    assert resolve(None, "2026-11-23 03:00:00.000 UTC", "2026-11-23 00:00:00.500 -03") == [
        dt.datetime(2026, 11, 23, 3, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 23, 3, 0, 0, 500000, dt.UTC),
    ]


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 99])
def test_an_hour_that_is_repeated_under_one_name_is_told_by_the_order(cut: int) -> None:
    """Moscow, October 2014: MSK went from +4 to +3 and kept its name."""
    clock = ("00:59:59", "01:10:00", "01:59:59", "01:00:00", "01:30:00", "01:59:00", "02:00:00")
    texts = [f"2014-10-26 {one}.000 MSK" for one in clock]
    times = LogTimes("Europe/Moscow", "test")
    found = [
        moment
        for part in (texts[:cut], texts[cut:])
        for moment in times.resolve(pa.array(part, pa.string())).to_pylist()
    ]
    hours = [
        (20, 59, 59),
        (21, 10, 0),
        (21, 59, 59),
        (22, 0, 0),
        (22, 30, 0),
        (22, 59, 0),
        (23, 0, 0),
    ]
    assert found == [dt.datetime(2014, 10, 25, *hour, tzinfo=dt.UTC) for hour in hours]
