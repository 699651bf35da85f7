from datetime import UTC, datetime, timedelta, timezone

import pytest

from lake import clock


def test_a_stamp_is_utc_with_milliseconds_and_compares_as_text() -> None:
    moment = datetime(2026, 11, 23, 17, 44, 1, 123456, timezone(timedelta(hours=1)))
    assert clock.stamp(moment) == "2026-11-23T16:44:01.123Z"
    assert clock.stamp(moment) < clock.stamp(moment + timedelta(milliseconds=1))


def test_a_stamp_reads_back() -> None:
    moment = datetime(2026, 11, 23, 16, 44, 1, tzinfo=UTC)
    assert clock.parse(clock.stamp(moment)) == moment


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        clock.stamp(datetime(2026, 11, 23))


def test_now_is_in_utc() -> None:
    assert clock.now().utcoffset() == timedelta(0)
