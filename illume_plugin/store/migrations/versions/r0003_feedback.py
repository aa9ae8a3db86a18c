"""Preferences keep feedback: stars, critique, what was edited, and the round a rationale came up in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for stars in ("helpful", "honest", "harmless"):
        op.add_column("preferences", sa.Column(stars, sa.Integer(), nullable=True))
    for words in ("original", "critique", "before", "refinement"):
        op.add_column("preferences", sa.Column(words, sa.Text(), nullable=False, server_default=""))
    op.add_column("preferences", sa.Column("turn", sa.Integer(), nullable=False, server_default="1"))
