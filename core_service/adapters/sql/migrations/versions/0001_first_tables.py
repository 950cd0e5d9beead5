"""The tables of the first version (ENGINE.md, Tables)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _conversations()
    _runs()
    _log()
    _lifecycle()
    _services()


def _conversations() -> None:
    op.create_table(
        "threads",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("thread_id", ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("queue_seq", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_version", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "thread_id"),
    )
    op.create_index("threads_by_time", "threads", ["tenant", "created", "thread_id"])
    op.create_table(
        "messages",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("thread_id", ID, nullable=False),
        sa.Column("pos", sa.BigInteger(), nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("is_input", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "thread_id", "pos"),
    )
    op.create_index("messages_by_id", "messages", ["message_id"], unique=True)


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("thread_id", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("holds_thread", sa.Boolean(), nullable=False),
        sa.Column("queue_pos", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("available_time", sa.BigInteger(), nullable=False),
        sa.Column("start_by", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lost_workers", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("cancel_reason", sa.SmallInteger(), nullable=True),
        sa.Column("cancel_time", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("end_body", sa.LargeBinary(), nullable=True),
        sa.Column("folded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("runs_by_time", "runs", ["tenant", "created", "run_id"])
    op.create_index(
        "runs_holder",
        "runs",
        ["tenant", "thread_id"],
        unique=True,
        sqlite_where=sa.text("holds_thread = 1"),
        postgresql_where=sa.text("holds_thread"),
    )
    op.create_index("runs_of_agent", "runs", ["tenant", "agent_id", "created", "run_id"])
    op.create_index("runs_of_thread", "runs", ["tenant", "thread_id", "created", "run_id"])
    op.create_index(
        "runs_overdue",
        "runs",
        ["start_by"],
        sqlite_where=sa.text("state = 1 AND holds_thread = 1 AND start_by IS NOT NULL"),
        postgresql_where=sa.text("state = 1 AND holds_thread AND start_by IS NOT NULL"),
    )
    op.create_index(
        "runs_to_claim",
        "runs",
        ["agent_id", "tenant", sa.text("priority DESC"), "created", "run_id"],
        sqlite_where=sa.text("state = 1 AND holds_thread = 1"),
        postgresql_where=sa.text("state = 1 AND holds_thread"),
    )
    op.create_index(
        "runs_to_claim_by_age",
        "runs",
        ["agent_id", "tenant", "created", "run_id"],
        sqlite_where=sa.text("state = 1 AND holds_thread = 1"),
        postgresql_where=sa.text("state = 1 AND holds_thread"),
    )
    op.create_index(
        "runs_to_fold",
        "runs",
        ["ended"],
        sqlite_where=sa.text("ended IS NOT NULL AND folded = 0"),
        postgresql_where=sa.text("ended IS NOT NULL AND NOT folded"),
    )
    op.create_index(
        "runs_waiting_turn",
        "runs",
        ["tenant", "thread_id", "queue_pos"],
        sqlite_where=sa.text("state = 1 AND holds_thread = 0"),
        postgresql_where=sa.text("state = 1 AND NOT holds_thread"),
    )
    op.create_table(
        "heads",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("acked", sa.Integer(), nullable=False),
        sa.Column("oldest_seq", sa.Integer(), nullable=False),
        sa.Column("owner", ID, nullable=True),
        sa.Column("session", ID, nullable=True),
        sa.Column("grace_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
        postgresql_with={"fillfactor": 50},
        sqlite_with_rowid=False,
    )
    op.create_index("heads_of_owner", "heads", ["owner"])
    op.create_index("heads_of_session", "heads", ["session"])


def _log() -> None:
    op.create_table(
        "segments",
        sa.Column("id", SERIAL, sa.Identity(always=False), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("segments_of_run", "segments", ["run_id", "last_seq"], unique=True)


def _lifecycle() -> None:
    op.create_table(
        "steps",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("step_key", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("parent_key", ID, nullable=False),
        sa.Column("started_seq", sa.Integer(), nullable=False),
        sa.Column("ended_seq", sa.Integer(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("args_hash", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step_key"),
    )
    op.create_table(
        "inputs",
        sa.Column("input_id", ID, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("ask_key", ID, nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("resolved_seq", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("input_id"),
    )
    op.create_index("inputs_of_run", "inputs", ["run_id", "ask_key"], unique=True)
    op.create_index(
        "inputs_open",
        "inputs",
        ["tenant", "expires"],
        sqlite_where=sa.text("outcome = 0"),
        postgresql_where=sa.text("outcome = 0"),
    )
    op.create_table(
        "inbox",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("pos", sa.Integer(), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("read_no", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "pos"),
    )


def _services() -> None:
    op.create_table(
        "cores",
        sa.Column("core_id", ID, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("core_id"),
    )
    op.create_table(
        "agents",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "agent_id"),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("operation", ID, nullable=False),
        sa.Column("key", ID, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", ID, nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "operation", "key"),
    )
    op.create_index("idempotency_by_expiry", "idempotency", ["expires"])
