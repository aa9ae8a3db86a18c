"""Candidate sets keep how many draws are not among them, by reason."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("candidate_sets", sa.Column("dropped", JSON, nullable=True))
