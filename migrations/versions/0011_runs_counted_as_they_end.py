"""Elapsed time is counted as units end, not summed over all of them each time.

Revision 0011. ``study.covered_until``: the end of the last run that ``elapsed_s`` counts; null before the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("covered_until", sa.Double(), nullable=True))
    op.execute(
        "UPDATE study SET covered_until = (SELECT max(unit.finished_at) FROM unit WHERE unit.study_id = study.id"
        " AND unit.state = 'done')"
    )


def downgrade() -> None:
    with op.batch_alter_table("study") as batch:
        batch.drop_column("covered_until")
