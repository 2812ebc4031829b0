"""The first schema.

Revision 0001, the start of the chain.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "study",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=255), nullable=False),
        sa.Column("spec", json, nullable=False),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("metric", sa.String(length=32), nullable=True),
        sa.Column("direction", sa.String(length=8), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("trials_planned", sa.Integer(), nullable=False),
        sa.Column("trials_done", sa.Integer(), nullable=False),
        sa.Column("confirm_planned", sa.Integer(), nullable=False),
        sa.Column("confirm_done", sa.Integer(), nullable=False),
        sa.Column("train_steps", sa.BigInteger(), nullable=False),
        sa.Column("elapsed_s", sa.Double(), nullable=False),
        sa.Column("device_s", sa.Double(), nullable=False),
        sa.Column("best_objective", sa.Double(), nullable=True),
        sa.Column("best_value", sa.Double(), nullable=True),
        sa.Column("best_optimizer", sa.String(length=32), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("winner", sa.String(length=32), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("plan_revision", sa.Integer(), nullable=False),
        sa.Column("result_seq", sa.Integer(), nullable=False),
        sa.Column("planned_seq", sa.Integer(), nullable=False),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
    )
    with op.batch_alter_table("study") as batch:
        batch.create_index("ix_study_created_at_id", ["created_at", "id"])
        batch.create_index("ix_study_state", ["state"])

    op.create_table(
        "worker",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=True),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    op.create_table(
        "event",
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", json, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_event_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "id", name=op.f("pk_event")),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_idempotency_key_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_key")),
    )
    with op.batch_alter_table("idempotency_key") as batch:
        batch.create_index("ix_idempotency_key_study_id", ["study_id"])

    op.create_table(
        "recommendation",
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("document", json, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_recommendation_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_recommendation")),
    )
    op.create_table(
        "unit",
        sa.Column("id", big_id, nullable=False),
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("horizon", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spec", json, nullable=False),
        sa.Column("result", json, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_unit_study_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit")),
        sa.UniqueConstraint("study_id", "key", name=op.f("uq_unit_study_id_key")),
    )
    with op.batch_alter_table("unit") as batch:
        batch.create_index("ix_unit_state_id", ["state", "id"])
        batch.create_index("ix_unit_study_id_state", ["study_id", "state"])

    op.create_table(
        "checkpoint",
        sa.Column("unit_id", big_id, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("saved_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_checkpoint_unit_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("unit_id", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "measurement",
        sa.Column("unit_id", big_id, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("train_loss", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_measurement_unit_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("unit_id", "number", "step", name=op.f("pk_measurement")),
    )
    op.create_table(
        "trial",
        sa.Column("study_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("optimizer", sa.String(length=32), nullable=False),
        sa.Column("configuration", json, nullable=False),
        sa.Column("seed", big_id, nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("unit_id", big_id, nullable=True),
        sa.Column("objective", sa.Double(), nullable=True),
        sa.Column("metric", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("diverged_at_step", sa.Integer(), nullable=True),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_trial_study_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_trial_unit_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("study_id", "number", name=op.f("pk_trial")),
    )
    with op.batch_alter_table("trial") as batch:
        batch.create_index("ix_trial_study_id_objective_number", ["study_id", "objective", "number"])
        batch.create_index("ix_trial_unit_id", ["unit_id"])


def downgrade() -> None:
    with op.batch_alter_table("trial") as batch:
        batch.drop_index("ix_trial_unit_id")
        batch.drop_index("ix_trial_study_id_objective_number")

    op.drop_table("trial")
    op.drop_table("measurement")
    op.drop_table("checkpoint")
    with op.batch_alter_table("unit") as batch:
        batch.drop_index("ix_unit_study_id_state")
        batch.drop_index("ix_unit_state_id")

    op.drop_table("unit")
    op.drop_table("recommendation")
    with op.batch_alter_table("idempotency_key") as batch:
        batch.drop_index("ix_idempotency_key_study_id")

    op.drop_table("idempotency_key")
    op.drop_table("event")
    op.drop_table("worker")
    with op.batch_alter_table("study") as batch:
        batch.drop_index("ix_study_state")
        batch.drop_index("ix_study_created_at_id")

    op.drop_table("study")
