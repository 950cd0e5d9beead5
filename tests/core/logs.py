"""What must hold for everything that is stored, whatever a test did, and for everything that clients saw of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from core_service.domain.runs import ENDED, QUEUED, RUNNING
from penstock.v1.event_pb2 import Event
from tests.core.places import Place, StoredRun
from tests.grammar.checker import violations

MAY_BE_QUEUED = ("run_queued", "run_retrying", "state_patched", "run_resumed", "message_received")
"""The newest event of a run that is queued: created, retried, answered while nobody had it, or steered since."""


@dataclass
class Sighting:
    """The events of a run that one client saw, behind a cursor."""

    run_id: str
    after: int
    events: list[Event] = field(default_factory=list)

    @property
    def cursor(self) -> int:
        """Where this client would go on."""
        return self.after + len(self.events)

    @property
    def kinds(self) -> list[str]:
        """What happened, in a word each."""
        return [str(event.WhichOneof("payload")) for event in self.events]

    @property
    def text(self) -> str:
        """The deltas joined."""
        return "".join(event.part_delta.text for event in self.events if event.HasField("part_delta"))


def check(place: Place, sightings: Iterable[Sighting]) -> dict[str, StoredRun]:
    """Hold the database against the promises, and what clients saw against the database. Returns what is stored."""
    runs = place.runs()
    for run in runs.values():
        check_log(run)
        check_questions(run)
    check_threads(runs.values())
    for seen in sightings:
        if seen.events:
            check_sighting(seen, runs[seen.run_id].events if seen.run_id in runs else ())
    return runs


def check_log(run: StoredRun) -> None:
    """The rows tile the log, the log keeps the grammar, and the run's columns say what the log says."""
    seq = run.oldest_seq - 1
    for first_seq, last_seq, data in run.rows:
        assert data, run.run_id
        assert first_seq == seq + 1, f"{run.run_id}: a segment from {first_seq} follows event {seq}"
        seq = last_seq
    assert seq == run.last_seq, f"{run.run_id}: the log ends at {seq}, its head says {run.last_seq}"
    events = run.events
    assert [event.seq for event in events] == list(range(run.oldest_seq, run.last_seq + 1)), run.run_id
    if run.oldest_seq == 1:
        assert violations(events, is_whole=run.state in ENDED) == [], run.run_id
    check_columns(run, events)


def check_columns(run: StoredRun, events: Sequence[Event]) -> None:
    """One end, in the log and in the row."""
    ends = [event for event in events if event.HasField("run_ended")]
    has_expired = run.oldest_seq > run.last_seq
    assert len(ends) == (run.state in ENDED and not has_expired), run.run_id
    if ends:
        assert events[-1] is ends[0]
        assert (ends[0].run_ended.state, ends[0].run_ended.reason) == (run.state, run.reason), run.run_id
        assert not run.holds_thread, run.run_id
        assert run.owner is None, run.run_id
    attempts = [event.run_started.attempt for event in events if event.HasField("run_started")]
    assert attempts == list(range(1, run.attempt + 1)) or run.oldest_seq > 1, f"{run.run_id}: attempts {attempts}"
    if run.state == QUEUED:
        assert events[-1].WhichOneof("payload") in MAY_BE_QUEUED, run.run_id
        assert run.owner is None, run.run_id
    if run.state == RUNNING:
        assert run.holds_thread, run.run_id


def check_questions(run: StoredRun) -> None:
    """The rows of a run's questions say what its log says of them."""
    asked = {event.input_requested.input.id for event in run.events if event.HasField("input_requested")}
    for input_id, outcome, resolved_seq in run.questions:
        assert input_id in asked or run.oldest_seq > 1, f"{run.run_id}: a row of a question that was never asked"
        told = [
            event.input_resolved.outcome
            for event in run.events
            if event.HasField("input_resolved") and event.input_resolved.input_id == input_id
        ]
        if run.state in ENDED or resolved_seq is not None:
            assert told == [outcome] or run.oldest_seq > 1, (
                f"{run.run_id}: {input_id} is {outcome}, the log says {told}"
            )
        else:
            assert told == [], f"{run.run_id}: the log tells more of {input_id} than its row"


def check_threads(runs: Iterable[StoredRun]) -> None:
    """One active run per thread, and nobody waits behind nobody."""
    active = [run for run in runs if run.state not in ENDED]
    holders = Counter(run.thread_id for run in active if run.holds_thread)
    assert all(count == 1 for count in holders.values()), holders
    waiting = {run.thread_id for run in active if not run.holds_thread}
    assert waiting <= holders.keys(), f"threads with waiting runs and no holder: {waiting - holders.keys()}"


def check_sighting(seen: Sighting, stored: Sequence[Event]) -> None:
    """What a client saw is what is stored, as far as it is kept, from its cursor on, without gap or repeat."""
    assert [event.seq for event in seen.events] == list(range(seen.after + 1, seen.cursor + 1)), seen.run_id
    kept = {event.seq: event for event in stored}
    other = [event for event in seen.events if kept.get(event.seq, event) != event]
    assert other == [], f"{seen.run_id}: a client saw other events than are stored"
    expired = stored[0].seq if stored else seen.cursor + 1
    assert all(event.seq in kept for event in seen.events if event.seq >= expired), seen.run_id
