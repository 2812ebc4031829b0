"""Uploaded files, webhooks, excluded trials, priorities and deadlines.

Revision 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False, server_default="default"),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("content", sa.String(length=200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.UniqueConstraint("project_id", "sha256", "format", name="uq_artifact_project_id_sha256_format"),
    )
    op.create_index("ix_artifact_sha256", "artifact", ["sha256"])
    op.create_index("ix_artifact_created_at_id", "artifact", ["created_at", "id"])
    op.create_table(
        "study_artifact",
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "artifact_id", name="pk_study_artifact"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_study_artifact_study_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_study_artifact_artifact_id"),
    )
    op.create_index("ix_study_artifact_artifact_id", "study_artifact", ["artifact_id"])
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False, server_default="default"),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
    )
    op.create_index("ix_webhook_project_id", "webhook", ["project_id"])
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False, server_default="default"),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhook.id"], name="fk_delivery_webhook_id", ondelete="CASCADE"),
    )
    op.create_index("ix_delivery_webhook_id", "delivery", ["webhook_id"])
    op.create_index("ix_delivery_state_next_at", "delivery", ["state", "next_at"])
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("deadline", sa.Double(), nullable=True))
    with op.batch_alter_table("trial") as batch:
        batch.add_column(sa.Column("excluded", sa.String(length=500), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("trial") as batch:
        batch.drop_column("excluded")
    with op.batch_alter_table("study") as batch:
        batch.drop_column("deadline")
        batch.drop_column("priority")
    for name in ("delivery", "webhook", "study_artifact", "artifact"):
        op.drop_table(name)
