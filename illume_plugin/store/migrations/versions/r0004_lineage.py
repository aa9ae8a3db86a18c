"""What each run learnt from, versions that were retired, who switched, runs that start from clean ones."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "run_sources",
        sa.Column("run_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("annotation_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("annotator", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("said", sa.String(64), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
    )
    op.create_index("run_sources_by_annotation", "run_sources", ["project_id", "annotation_id"])
    op.create_table(
        "retirements",
        sa.Column("project_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(16), primary_key=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("retired_at", sa.Float(), nullable=False),
    )
    op.add_column("switches", sa.Column("who", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "runs", sa.Column("without_deleted", sa.Boolean(), nullable=False, server_default=sa.false())
    )
