"""Studies of a person's own loop, and their clients.

Revision 0004. ``study.external``: its units are asked for by clients, and no engine worker may claim them. ``worker.study_id``:
set for a client of such a study.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("external", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("worker") as batch:
        batch.add_column(sa.Column("study_id", sa.String(length=32), nullable=True))
        batch.create_foreign_key("fk_worker_study_id", "study", ["study_id"], ["id"], ondelete="CASCADE")
        batch.create_index("ix_worker_study_id", ["study_id"])


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM worker WHERE study_id IS NOT NULL"))
    with op.batch_alter_table("worker") as batch:
        batch.drop_index("ix_worker_study_id")
        batch.drop_constraint("fk_worker_study_id", type_="foreignkey")
        batch.drop_column("study_id")
    with op.batch_alter_table("study") as batch:
        batch.drop_column("external")
