"""Trials of a version with people, and preferences of texts that two adapters wrote."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "trials",
        sa.Column("trial_id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.String(length=16), nullable=False),
        sa.Column("challenger", sa.String(length=16), nullable=False),
        sa.Column("alpha", sa.Float(), nullable=False),
        sa.Column("most_tasks", sa.Integer(), nullable=False),
        sa.Column("after_annotation", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.PrimaryKeyConstraint("trial_id"),
    )
    op.create_index(
        "one_open_trial", "trials", ["project_id"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_index("trials_by_project", "trials", ["project_id", "trial_id"], unique=False)
    op.add_column("preferences", sa.Column("shared_with", sa.String(length=64), nullable=True))
