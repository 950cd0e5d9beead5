"""What the whole life of a run needs: deadlines, parents, labels, inputs, webhooks, schedules, retention."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _runs()
    _records()
    _labels()
    _services()


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _runs() -> None:
    for column in (
        sa.Column("parent_run_id", ID),
        sa.Column("depth", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("delayed", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("run_left", sa.BigInteger()),
        sa.Column("deadline", sa.BigInteger()),
        sa.Column("disconnect_grace", sa.BigInteger()),
        sa.Column("watched_until", sa.BigInteger()),
        sa.Column("state_before", sa.Text()),
        sa.Column("state_before_version", sa.Integer()),
        sa.Column("expired", sa.SmallInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("runs", column)
    _remember_states()
    op.drop_index("runs_waiting_turn", "runs")
    no, yes = ("false", "true") if op.get_bind().dialect.name == "postgresql" else ("0", "1")
    waits = f"state = 1 AND holds_thread = {no} AND delayed = {no}"
    _partial("runs_waiting_turn", "runs", ["tenant", "thread_id", "queue_pos"], waits)
    _partial("runs_delayed", "runs", ["available_time"], f"state = 1 AND delayed = {yes}")
    _partial("runs_delayed_of_thread", "runs", ["tenant", "thread_id"], f"state = 1 AND delayed = {yes}")
    active = "state IN (1, 2, 3)"
    _partial("runs_to_cancel", "runs", ["cancel_time"], f"cancel_time IS NOT NULL AND {active}")
    _partial("runs_of_parent", "runs", ["parent_run_id"], f"parent_run_id IS NOT NULL AND {active}")
    _partial("runs_to_be_watched", "runs", ["watched_until"], f"watched_until IS NOT NULL AND {active}")
    _partial("runs_ended", "runs", ["tenant", "agent_id", "expired", "ended"], "ended IS NOT NULL")


def _remember_states() -> None:
    """A run under way wrote no state so far: its thread has the state from before it."""
    thread = "FROM threads WHERE threads.tenant = runs.tenant AND threads.thread_id = runs.thread_id"
    op.execute(
        f"UPDATE runs SET state_before = (SELECT threads.state {thread}), "
        f"state_before_version = (SELECT threads.state_version {thread}) WHERE state IN (1, 2, 3) AND attempt > 0"
    )


def _records() -> None:
    for column in (
        sa.Column("asked_seq", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("resolved", sa.BigInteger()),
        sa.Column("origin", sa.Text()),
    ):
        op.add_column("inputs", column)
    op.drop_index("inputs_open", "inputs")
    _partial("inputs_open", "inputs", ["tenant", "created", "input_id"], "outcome = 0")
    _partial("inputs_to_expire", "inputs", ["expires"], "outcome = 0 AND expires IS NOT NULL")
    op.create_index("inputs_by_time", "inputs", ["tenant", "created", "input_id"])
    _partial("inputs_unseen", "inputs", ["run_id"], "outcome != 0 AND resolved_seq IS NULL")
    for column in (
        sa.Column("seq", sa.Integer()),
        sa.Column("unread_policy", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("created", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("inbox", column)
    _partial("inbox_unseen", "inbox", ["run_id"], "state = 0 AND seq IS NULL")
    _partial("inbox_to_follow_up", "inbox", ["run_id"], "state = 3")


def _labels() -> None:
    op.create_table(
        "run_labels",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("label", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "label", "created", "run_id"),
    )
    op.create_index("labels_of_run", "run_labels", ["run_id"])


def _services() -> None:
    op.create_table(
        "webhooks",
        sa.Column("delivery_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_time", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger()),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
    op.create_index("webhooks_of_run", "webhooks", ["run_id"])
    _partial("webhooks_due", "webhooks", ["next_time"], "state = 0")
    op.create_table(
        "schedules",
        sa.Column("schedule_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_time", sa.BigInteger()),
        sa.Column("last_time", sa.BigInteger()),
        sa.Column("last_run_id", ID),
        sa.Column("last_refusal", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("schedule_id"),
    )
    op.create_index("schedules_by_time", "schedules", ["tenant", "created", "schedule_id"])
    no = "false" if op.get_bind().dialect.name == "postgresql" else "0"
    _partial("schedules_due", "schedules", ["next_time"], f"paused = {no} AND next_time IS NOT NULL")
    op.create_table(
        "retention",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("keep_events", sa.BigInteger()),
        sa.Column("keep_messages", sa.BigInteger()),
        sa.Column("keep_runs", sa.BigInteger()),
        sa.PrimaryKeyConstraint("tenant", "agent_id"),
    )
