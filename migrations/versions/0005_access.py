"""Projects, keys, and whose each study is.

Revision 0005. Studies that exist belong to the project ``default``. An Idempotency-Key is its project's own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    project = op.create_table(
        "project",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("max_studies", sa.Integer(), nullable=True),
        sa.Column("max_device_s", sa.BigInteger(), nullable=True),
        sa.Column("deleted_device_s", sa.Double(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
    )
    op.bulk_insert(project, [{"id": "default", "created_at": 0.0}])
    op.create_table(
        "access_key",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("parent_id", sa.String(length=12), nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hint", sa.String(length=4), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_access_key"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_access_key_project_id"),
        sa.ForeignKeyConstraint(["parent_id"], ["access_key.id"], name="fk_access_key_parent_id", ondelete="CASCADE"),
    )
    op.create_index("ix_access_key_project_id", "access_key", ["project_id"])
    op.create_index("ix_access_key_parent_id", "access_key", ["parent_id"])
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("project_id", sa.String(length=36), nullable=False, server_default="default"))
        batch.create_foreign_key("fk_study_project_id", "project", ["project_id"], ["id"])
        batch.drop_index("ix_study_created_at_id")
        batch.create_index("ix_study_project_id_created_at_id", ["project_id", "created_at", "id"])
    with op.batch_alter_table("idempotency_key") as batch:
        batch.add_column(sa.Column("project_id", sa.String(length=36), nullable=False, server_default="default"))
        batch.create_foreign_key("fk_idempotency_key_project_id", "project", ["project_id"], ["id"])
        batch.drop_constraint("pk_idempotency_key", type_="primary")
        batch.create_primary_key("pk_idempotency_key", ["project_id", "key"])


def downgrade() -> None:
    # Without projects nothing would keep strangers apart, so only the default project's studies stay.
    op.execute(sa.text("DELETE FROM idempotency_key WHERE project_id <> 'default'"))
    op.execute(sa.text("DELETE FROM study WHERE project_id <> 'default'"))
    with op.batch_alter_table("idempotency_key") as batch:
        batch.drop_constraint("pk_idempotency_key", type_="primary")
        batch.create_primary_key("pk_idempotency_key", ["key"])
        batch.drop_constraint("fk_idempotency_key_project_id", type_="foreignkey")
        batch.drop_column("project_id")
    with op.batch_alter_table("study") as batch:
        batch.drop_index("ix_study_project_id_created_at_id")
        batch.create_index("ix_study_created_at_id", ["created_at", "id"])
        batch.drop_constraint("fk_study_project_id", type_="foreignkey")
        batch.drop_column("project_id")
    op.drop_table("access_key")
    op.drop_table("project")
