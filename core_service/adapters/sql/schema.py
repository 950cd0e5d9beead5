"""The tables (ENGINE.md, Tables). Statements are written against them; the database gets them from `migrations/`.

Instants are microseconds since 1970 UTC. Protos are stored as bytes: a `body` is written once and never changed, what
changes has a column of its own.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    and_,
    false,
    literal_column,
    true,
)
from sqlalchemy.sql.elements import ColumnElement

from core_service.domain import runs as states

metadata = MetaData()

Id = Text().with_variant(Text(collation="C"), "postgresql")
"""Ids sort by bytes on both databases, as in Python: keyset paging and the lock order rely on it."""

Instant = BigInteger()
Serial = BigInteger().with_variant(Integer(), "sqlite")
"""On SQLite the type of a rowid has to be spelled INTEGER."""

cores = Table(
    "cores",
    metadata,
    Column("core_id", Id, primary_key=True),
    Column("address", Text, nullable=False),
    Column("started", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
)

agents = Table(
    "agents",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("agent_id", Id, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)

threads = Table(
    "threads",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("thread_id", Id, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("queue_seq", BigInteger, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_version", Integer, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
    Index("threads_by_time", "tenant", "created", "thread_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("thread_id", Id, nullable=False),
    Column("agent_id", Id, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("holds_thread", Boolean, nullable=False),
    Column("queue_pos", BigInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("available_time", Instant, nullable=False),
    Column("start_by", Instant),
    Column("attempt", Integer, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("lost_workers", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("cancel_reason", SmallInteger),
    Column("cancel_time", Instant),
    Column("created", Instant, nullable=False),
    Column("started", Instant),
    Column("ended", Instant),
    Column("end_body", LargeBinary),
    Column("folded", Boolean, nullable=False),
    Column("parent_run_id", Id),
    Column("depth", Integer, nullable=False, server_default="0"),
    Column("delayed", Boolean, nullable=False, server_default=false()),
    Column("run_left", BigInteger),
    Column("deadline", Instant),
    Column("disconnect_grace", BigInteger),
    Column("watched_until", Instant),
    Column("state_before", Text),
    Column("state_before_version", Integer),
    Column("expired", SmallInteger, nullable=False, server_default="0"),  # bit 1: its events, 2: its messages
)


def state_is(*which: int) -> ColumnElement[bool]:
    """Return the condition that a run is in one of these states, as literals: a partial index needs to see them."""
    values: list[ColumnElement[int]] = [literal_column(str(int(state))) for state in which]
    return runs.c.state == values[0] if len(values) == 1 else runs.c.state.in_(values)


IS_HOLDER = runs.c.holds_thread == true()
IS_QUEUED_HEAD = and_(state_is(states.QUEUED), IS_HOLDER)
IS_WAITING_TURN = and_(state_is(states.QUEUED), runs.c.holds_thread == false(), runs.c.delayed == false())
# A run that is to be cancelled waits for nothing: it never gets a turn.
IS_NEXT = and_(IS_WAITING_TURN, runs.c.cancel_time.is_(None))
IS_DELAYED = and_(state_is(states.QUEUED), runs.c.delayed == true())
IS_ACTIVE = state_is(*sorted(states.ACTIVE))
IS_TO_CANCEL = and_(runs.c.cancel_time.is_not(None), IS_ACTIVE)
IS_TO_FOLD = and_(runs.c.ended.is_not(None), runs.c.folded == false())


def _partial(name: str, *columns: Column[int] | Column[str] | ColumnElement[int], where: ColumnElement[bool]) -> None:
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


Index("runs_holder", runs.c.tenant, runs.c.thread_id, unique=True, sqlite_where=IS_HOLDER, postgresql_where=IS_HOLDER)
_partial(
    "runs_to_claim",
    runs.c.agent_id,
    runs.c.tenant,
    runs.c.priority.desc(),
    runs.c.created,
    runs.c.run_id,
    where=IS_QUEUED_HEAD,
)
_partial("runs_to_claim_by_age", runs.c.agent_id, runs.c.tenant, runs.c.created, runs.c.run_id, where=IS_QUEUED_HEAD)
_partial("runs_overdue", runs.c.start_by, where=and_(IS_QUEUED_HEAD, runs.c.start_by.is_not(None)))
_partial("runs_waiting_turn", runs.c.tenant, runs.c.thread_id, runs.c.queue_pos, where=IS_WAITING_TURN)
_partial("runs_to_fold", runs.c.ended, where=IS_TO_FOLD)
_partial("runs_delayed", runs.c.available_time, where=IS_DELAYED)
_partial("runs_delayed_of_thread", runs.c.tenant, runs.c.thread_id, where=IS_DELAYED)
_partial("runs_to_cancel", runs.c.cancel_time, where=IS_TO_CANCEL)
_partial("runs_of_parent", runs.c.parent_run_id, where=and_(runs.c.parent_run_id.is_not(None), IS_ACTIVE))
_partial("runs_to_be_watched", runs.c.watched_until, where=and_(runs.c.watched_until.is_not(None), IS_ACTIVE))
# What has expired already lies elsewhere in it than what has not: a sweep never passes over what earlier ones did.
_partial("runs_ended", runs.c.tenant, runs.c.agent_id, runs.c.expired, runs.c.ended, where=runs.c.ended.is_not(None))
Index("runs_by_time", runs.c.tenant, runs.c.created, runs.c.run_id)
Index("runs_of_thread", runs.c.tenant, runs.c.thread_id, runs.c.created, runs.c.run_id)
Index("runs_of_agent", runs.c.tenant, runs.c.agent_id, runs.c.created, runs.c.run_id)

# Narrow, and no index on what an append changes: PostgreSQL then updates in place (HOT), with room in every page.
heads = Table(
    "heads",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("acked", Integer, nullable=False),
    Column("oldest_seq", Integer, nullable=False),
    Column("owner", Id),
    Column("session", Id),
    Column("grace_until", Instant),
    Index("heads_of_owner", "owner"),
    Index("heads_of_session", "session"),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 50},
)

# Rows lie in the order of their append, never clustered by run: a commit of many runs writes few pages.
segments = Table(
    "segments",
    metadata,
    Column("id", Serial, Identity(), primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("segments_of_run", "run_id", "last_seq", unique=True),
)

messages = Table(
    "messages",
    metadata,
    Column("tenant", Id, nullable=False),
    Column("thread_id", Id, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("message_id", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("is_input", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "thread_id", "pos"),
    Index("messages_by_id", "message_id", unique=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("operation", Id, primary_key=True),
    Column("key", Id, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("resource_id", Id, nullable=False),
    Column("expires", Instant, nullable=False),
    Index("idempotency_by_expiry", "expires"),
)

steps = Table(
    "steps",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("step_key", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("parent_key", Id, nullable=False),
    Column("started_seq", Integer, nullable=False),
    Column("ended_seq", Integer),
    Column("state", SmallInteger, nullable=False),
    Column("args_hash", LargeBinary, nullable=False),
    Column("result", Text),
)

inputs = Table(
    "inputs",
    metadata,
    Column("input_id", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("ask_key", Id, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", Text),
    Column("answered_by", Text),
    Column("expires", Instant),
    Column("resolved_seq", Integer),
    Column("asked_seq", Integer, nullable=False, server_default="0"),
    Column("created", Instant, nullable=False, server_default="0"),
    Column("resolved", Instant),
    Column("origin", Text),
    Index("inputs_of_run", "run_id", "ask_key", unique=True),
    Index("inputs_by_time", "tenant", "created", "input_id"),
)
IS_OPEN = inputs.c.outcome == literal_column("0")
IS_SETTLED_UNSEEN = and_(inputs.c.outcome != literal_column("0"), inputs.c.resolved_seq.is_(None))
_partial("inputs_open", inputs.c.tenant, inputs.c.created, inputs.c.input_id, where=IS_OPEN)
_partial("inputs_to_expire", inputs.c.expires, where=and_(IS_OPEN, inputs.c.expires.is_not(None)))
_partial("inputs_unseen", inputs.c.run_id, where=IS_SETTLED_UNSEEN)

inbox = Table(
    "inbox",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("pos", Integer, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("read_no", Integer),
    Column("seq", Integer),
    Column("unread_policy", SmallInteger, nullable=False, server_default="0"),
    Column("created", Instant, nullable=False, server_default="0"),
)
IS_UNSEEN = and_(inbox.c.state == literal_column("0"), inbox.c.seq.is_(None))
IS_TO_FOLLOW_UP = inbox.c.state == literal_column("3")
_partial("inbox_unseen", inbox.c.run_id, where=IS_UNSEEN)
_partial("inbox_to_follow_up", inbox.c.run_id, where=IS_TO_FOLLOW_UP)

# A label is the hash of a name and a value: an index has no room for long values.
run_labels = Table(
    "run_labels",
    metadata,
    Column("tenant", Id, nullable=False),
    Column("label", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
    Column("run_id", Id, nullable=False),
    PrimaryKeyConstraint("tenant", "label", "created", "run_id"),
    Index("labels_of_run", "run_id"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("delivery_id", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("url", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_time", Instant, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("created", Instant, nullable=False),
    Column("delivered", Instant),
    Index("webhooks_of_run", "run_id"),
)
IS_TO_DELIVER = webhooks.c.state == literal_column("0")
_partial("webhooks_due", webhooks.c.next_time, where=IS_TO_DELIVER)

schedules = Table(
    "schedules",
    metadata,
    Column("schedule_id", Id, primary_key=True),
    Column("tenant", Id, nullable=False),
    Column("agent_id", Id, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("next_time", Instant),
    Column("last_time", Instant),
    Column("last_run_id", Id),
    Column("last_refusal", Text, nullable=False),
    Column("created", Instant, nullable=False),
    Index("schedules_by_time", "tenant", "created", "schedule_id"),
)
IS_SCHEDULED = and_(schedules.c.paused == false(), schedules.c.next_time.is_not(None))
_partial("schedules_due", schedules.c.next_time, where=IS_SCHEDULED)

retention = Table(
    "retention",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("agent_id", Id, primary_key=True),
    Column("keep_events", BigInteger),
    Column("keep_messages", BigInteger),
    Column("keep_runs", BigInteger),
)

# What was deleted and still has remains: they go in pieces, and a crash in between must not leave any behind.
deletions = Table(
    "deletions",
    metadata,
    Column("kind", SmallInteger, nullable=False),
    Column("tenant", Id, nullable=False),
    Column("resource_id", Id, nullable=False),
    PrimaryKeyConstraint("kind", "tenant", "resource_id"),
)
IS_THREAD_DELETION = deletions.c.kind == literal_column("1")
IS_RUN_DELETION = deletions.c.kind == literal_column("2")
