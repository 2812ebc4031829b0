"""What a run was for and what it scored on which rows.

Revision 0003. ``fold`` and ``roles`` of a trial as planned; ``scores``: of a confirmed run, its metric and rows on each split.
Null for the trials that were stored before; their row scores are in their units' results.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("trial") as batch:
        batch.add_column(sa.Column("fold", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("roles", json, nullable=True))
        batch.add_column(sa.Column("scores", json, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("trial") as batch:
        batch.drop_column("scores")
        batch.drop_column("roles")
        batch.drop_column("fold")
