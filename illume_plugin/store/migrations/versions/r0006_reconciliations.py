"""How far each project has been read from Label Studio."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("project_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("settled", sa.String(32), nullable=False),
        sa.Column("walk", sa.String(32), nullable=True),
        sa.Column("walked", sa.BigInteger(), nullable=False),
        sa.Column("walk_settles", sa.String(32), nullable=False),
        sa.Column("checked_at", sa.Float(), nullable=True),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Float(), nullable=True),
    )
