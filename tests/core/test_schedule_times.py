"""When schedules are due: expressions, time zones, changes of the clocks, and what is no expression."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core_service.domain.errors import InvalidArgument
from core_service.domain.schedules import next_time, run_request, stored
from penstock.v1.message_pb2 import Message, Part, Role, TextPart
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.schedule_pb2 import Schedule

BERLIN = "Europe/Berlin"


def micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def following(cron: str, after: str, *, zone: str = "", count: int = 1) -> list[str]:
    """The next times, in UTC."""
    found, instant = [], micros(after)
    for _ in range(count):
        time = next_time(Schedule(cron=cron, time_zone=zone), after=instant)
        assert time is not None
        found.append(datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        instant = time
    return found


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("*/15 * * * *", "2027-01-01T00:00:00+00:00", "2027-01-01 00:15:00"),
        ("*/15 * * * *", "2027-01-01T00:14:59.999999+00:00", "2027-01-01 00:15:00"),
        ("*/15 * * * *", "2027-01-01T00:15:00+00:00", "2027-01-01 00:30:00"),
        ("0 9 * * MON-FRI", "2027-01-01T09:00:00+00:00", "2027-01-04 09:00:00"),
        ("0 9 * * mon-fri", "2027-01-01T09:00:00+00:00", "2027-01-04 09:00:00"),
        ("0 0 29 2 *", "2027-01-01T00:00:00+00:00", "2028-02-29 00:00:00"),
        ("30 6 1,15 * 0", "2027-01-02T00:00:00+00:00", "2027-01-03 06:30:00"),
    ],
)
def test_next_time_is_the_first_behind_an_instant(cron: str, after: str, expected: str) -> None:
    assert following(cron, after) == [expected]


def test_expression_is_read_in_its_time_zone() -> None:
    assert following("0 9 * * *", "2027-01-01T00:00:00+00:00", zone=BERLIN) == ["2027-01-01 08:00:00"]
    assert following("0 9 * * *", "2027-07-01T00:00:00+00:00", zone=BERLIN) == ["2027-07-01 07:00:00"]
    assert following("0 9 * * *", "2027-07-01T00:00:00+00:00", zone="Asia/Kolkata") == ["2027-07-01 03:30:00"]


def test_time_of_day_that_the_clocks_skip_comes_at_once_afterwards() -> None:
    assert following("30 2 * * *", "2027-03-27T12:00:00+01:00", zone=BERLIN, count=2) == [
        "2027-03-28 01:00:00",
        "2027-03-29 00:30:00",
    ]


def test_time_of_day_that_comes_twice_is_due_once_wherever_one_starts() -> None:
    assert following("30 2 * * *", "2027-10-30T12:00:00+02:00", zone=BERLIN, count=2) == [
        "2027-10-31 00:30:00",
        "2027-11-01 01:30:00",
    ]
    within_the_second_coming = "2027-10-31T02:10:00+01:00"
    assert following("30 2 * * *", within_the_second_coming, zone=BERLIN) == ["2027-11-01 01:30:00"]


def test_steps_go_on_through_an_hour_that_comes_twice() -> None:
    assert following("*/30 * * * *", "2027-10-31T01:45:00+02:00", zone=BERLIN, count=5) == [
        "2027-10-31 00:00:00",
        "2027-10-31 00:30:00",
        "2027-10-31 01:00:00",
        "2027-10-31 01:30:00",
        "2027-10-31 02:00:00",
    ]


def test_expression_that_never_comes_true_has_no_next_time() -> None:
    assert next_time(Schedule(cron="* * */20 * 1L"), after=micros("2027-01-01T00:00:00+00:00")) is None


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* * 31 2 *", "*/0 * * * *", "a b c d e", "* " * 500],
)
def test_what_is_no_expression_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        next_time(Schedule(cron=cron), after=0)
    assert refused.value.metadata == {"field": "cron"}


@pytest.mark.parametrize("zone", ["Berlin", "Europe", "../etc/passwd", "/etc/localtime", "a\0b", "x" * 5_000, "Ü"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        next_time(Schedule(cron="* * * * *", time_zone=zone), after=0)
    assert refused.value.metadata == {"field": "time_zone"}


FIELD = st.text("0123456789*/,-#LWlwMONjan", min_size=1, max_size=8)


@given(cron=st.tuples(FIELD, FIELD, FIELD, FIELD, FIELD).map(" ".join), zone=st.sampled_from(["", BERLIN]))
def test_any_expression_is_refused_or_due_later(cron: str, zone: str) -> None:
    after = micros("2027-10-31T00:40:00+00:00")
    try:
        time = next_time(Schedule(cron=cron, time_zone=zone), after=after)
    except InvalidArgument:
        return
    assert time is None or time > after


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────────────────────────


def said(text: str) -> Message:
    return Message(role=Role.ROLE_USER, parts=[Part(text=TextPart(text=text))])


def wanted(**fields: object) -> Schedule:
    return Schedule(**{"cron": "0 9 * * *", "agent_id": "echo", "input": [said("good morning")]} | fields)  # type: ignore[arg-type]


def test_what_is_the_cores_own_is_not_taken_from_a_client() -> None:
    given = wanted(id="mine", paused=True, last_run_id="run_1", last_refusal="NO", cron=" 0  9 * * * ")
    given.next_time.FromSeconds(1)
    expected = wanted(id="sch_1")
    expected.create_time.FromSeconds(7)
    assert stored(given, schedule_id="sch_1", now=7_000_000) == expected


def test_its_runs_have_its_input_and_its_label() -> None:
    schedule = stored(wanted(thread_id="t", metadata={"a": "b"}), schedule_id="sch_1", now=0)
    request = run_request(schedule)
    assert (request.agent_id, request.thread_id, list(request.input)) == ("echo", "t", [said("good morning")])
    assert dict(request.metadata) == {"a": "b", "schedule_id": "sch_1"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": []}, "input"),
        ({"input": [Message(role=Role.ROLE_USER)]}, "input[0].parts"),
        ({"thread_id": "no blanks"}, "thread_id"),
        ({"name": "x" * 257}, "name"),
        ({"metadata": {"schedule_id": "mine"}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(64)}}, "metadata"),
        ({"options": RunOptions(priority=1_000)}, "options.priority"),
        ({"options": RunOptions(start_time=Timestamp(seconds=1))}, "options.start_time"),
    ],
)
def test_schedule_whose_runs_would_be_refused_is_refused(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        stored(wanted(**fields), schedule_id="sch_1", now=0)
    assert refused.value.metadata["field"] == field
