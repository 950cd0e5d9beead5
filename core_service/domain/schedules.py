"""What a schedule must look like, when it is due, and which run it asks for.

Cron expressions are read by cronsim, which does at a change of the clocks what Debian's cron does: a time of day that
is skipped comes at once afterwards, one that comes twice comes once. Nothing here knows the time or stores anything.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from core_service.domain.errors import InvalidArgument
from core_service.domain.run_requests import MAX_LABELS, check_create, new_messages, normalised_options
from penstock.v1.run_service_pb2 import CreateRunRequest
from penstock.v1.schedule_pb2 import Schedule

LABEL = "schedule_id"
"""The label by which the runs of a schedule are found."""

MAX_NAME = 256
MAX_EXPRESSION = 256
FIELDS = 5

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def stored(given: Schedule, *, schedule_id: str, now: int) -> Schedule:
    """Return a schedule as it is kept, without what is the core's own. Refuses with InvalidArgument."""
    if len(given.name) > MAX_NAME or "\0" in given.name:
        raise InvalidArgument(f"name may have {MAX_NAME} characters, without NUL.", field="name")
    if len(given.metadata) >= MAX_LABELS or LABEL in given.metadata:
        raise InvalidArgument(f"metadata may have {MAX_LABELS - 1} entries, and not {LABEL}.", field="metadata")
    kept = Schedule(
        id=schedule_id,
        name=given.name,
        cron=" ".join(given.cron.split()),
        time_zone=given.time_zone,
        agent_id=given.agent_id,
        thread_id=given.thread_id,
        input=given.input,
        metadata=given.metadata,
    )
    if given.HasField("options"):
        kept.options.CopyFrom(given.options)
    kept.create_time.FromMicroseconds(now)
    _check_run(run_request(kept), now)
    return kept


def _check_run(request: CreateRunRequest, now: int) -> None:
    """Refuse now what each of its runs would be refused for."""
    if request.options.HasField("start_time"):
        raise InvalidArgument("A schedule says when its runs start: leave out start_time.", field="options.start_time")
    check_create(request)
    normalised_options(request.options)
    new_messages(request.input, run_id="", now=now)


def run_request(schedule: Schedule) -> CreateRunRequest:
    """Return the create of each of its runs."""
    request = CreateRunRequest(
        agent_id=schedule.agent_id,
        thread_id=schedule.thread_id,
        input=schedule.input,
        metadata={**schedule.metadata, LABEL: schedule.id},
    )
    if schedule.HasField("options"):
        request.options.CopyFrom(schedule.options)
    return request


def next_time(schedule: Schedule, *, after: int) -> int | None:
    """Return the first instant behind another at which a schedule is due; None: not within fifty years.

    Refuses with InvalidArgument what is no expression or no time zone.
    """
    zone = _zone(schedule.time_zone)
    expression = schedule.cron
    if len(expression) > MAX_EXPRESSION or len(expression.split()) != FIELDS:
        raise InvalidArgument(
            "cron must have five fields: minute, hour, day of month, month, day of week.", field="cron"
        )
    start = _EPOCH + after * _MICROSECOND
    try:
        # While an hour comes twice, the first times may lie in its first coming, which is over.
        found = next((time for time in CronSim(expression, start.astimezone(zone)) if time > start), None)
    except CronSimError as error:
        raise InvalidArgument(f"cron is no cron expression: {error}.", field="cron") from error
    return None if found is None else (found - _EPOCH) // _MICROSECOND


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # the last for folders, as `Europe` is one
        raise InvalidArgument(
            f"time_zone must be the name of an IANA time zone, like Europe/Berlin, not {name[:80]!r}.",
            field="time_zone",
        ) from error


def fingerprint(given: Schedule, *, tenant: str) -> bytes:
    """Return what tells two creates with the same request id apart."""
    return hashlib.sha256(tenant.encode() + b"\0" + given.SerializeToString(deterministic=True)).digest()
