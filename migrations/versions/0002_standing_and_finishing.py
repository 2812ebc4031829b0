"""Where a running study stands, and the wish to finish it early.

Revision 0002. ``standing``: what tuning has gained so far and what the budget will buy, for lists and progress.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("standing", json, nullable=True))
        batch.add_column(sa.Column("forecast", json, nullable=True))
        batch.add_column(sa.Column("finishing", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("study") as batch:
        batch.drop_column("finishing")
        batch.drop_column("forecast")
        batch.drop_column("standing")
