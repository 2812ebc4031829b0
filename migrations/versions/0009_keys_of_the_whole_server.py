"""Keys of one project and keys of the whole server.

Revision 0009. ``access_key.project_id`` may be null: a key of the whole server. Until now every admin key ruled all projects.
Those that were made for a project rule it alone from now on; those of ``default``, where keys went for which nobody named a
project, stay what they were.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("access_key") as batch:
        batch.alter_column("project_id", existing_type=sa.String(length=36), nullable=True)
    op.execute(sa.text("UPDATE access_key SET project_id = NULL WHERE scope = 'admin' AND project_id = 'default'"))


def downgrade() -> None:
    # Before, an admin key ruled everything: those of one project must not begin to, and nobody knew of figures alone.
    op.execute(sa.text("UPDATE access_key SET scope = 'write' WHERE scope = 'admin' AND project_id IS NOT NULL"))
    op.execute(sa.text("DELETE FROM access_key WHERE scope = 'metrics'"))
    op.execute(sa.text("UPDATE access_key SET project_id = 'default' WHERE project_id IS NULL"))
    with op.batch_alter_table("access_key") as batch:
        batch.alter_column("project_id", existing_type=sa.String(length=36), nullable=False)
