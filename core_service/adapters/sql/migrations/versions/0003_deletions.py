"""What was deleted and still has remains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("resource_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("kind", "tenant", "resource_id"),
    )
