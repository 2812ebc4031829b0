"""Workers go to the project that has had the fewest device seconds in the last hour.

Revision 0012. ``device_use``: device seconds of a project's units that ended, by slices of five minutes. ``unit.leased_at``:
when the present lease began, from which a unit that runs is counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_use",
        sa.Column(
            "project_id", sa.String(36), sa.ForeignKey("project.id", name="fk_device_use_project_id"), nullable=False
        ),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "bucket", name="pk_device_use"),
    )
    with op.batch_alter_table("unit") as batch:
        batch.add_column(sa.Column("leased_at", sa.Double(), nullable=True))
    op.execute("UPDATE unit SET leased_at = claimed_at WHERE state = 'leased'")


def downgrade() -> None:
    with op.batch_alter_table("unit") as batch:
        batch.drop_column("leased_at")
    op.drop_table("device_use")
