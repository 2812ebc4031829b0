"""Names of optimizers as long as the catalogue takes them, studies that take turns, and data that are checked afterwards.

Revision 0006. ``study.turn_at``: its place in the line of those that wait for workers. ``unit.spent_s``: the time of turns that
ended with a checkpoint. ``study.check_until``, ``check_tries`` and ``error_details``: the check of its data.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NAMES = (("study", "best_optimizer", True), ("study", "winner", True), ("trial", "optimizer", False))


def upgrade() -> None:
    _resize(32, 80)
    with op.batch_alter_table("study") as batch:
        batch.add_column(sa.Column("turn_at", sa.Double(), nullable=False, server_default=sa.text("0")))
        batch.add_column(sa.Column("check_until", sa.Double(), nullable=True))
        batch.add_column(sa.Column("check_tries", sa.Integer(), nullable=False, server_default=sa.text("0")))
        batch.add_column(sa.Column("error_details", JSON, nullable=True))
    op.execute(sa.text("UPDATE study SET turn_at = created_at"))
    with op.batch_alter_table("unit") as batch:
        batch.add_column(sa.Column("spent_s", sa.Double(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    with op.batch_alter_table("unit") as batch:
        batch.drop_column("spent_s")
    with op.batch_alter_table("study") as batch:
        for name in ("error_details", "check_tries", "check_until", "turn_at"):
            batch.drop_column(name)
    # Whoever checked them before did so before they were stored.
    op.execute(sa.text("UPDATE study SET state = 'queued' WHERE state = 'checking'"))
    # Longer names are cut: rows of such optimizers were refused before.
    for table, column, _ in NAMES:
        op.execute(sa.text(f"UPDATE {table} SET {column} = substr({column}, 1, 32)"))  # noqa: S608 - names from above
    _resize(80, 32)


def _resize(old: int, new: int) -> None:
    for table, column, nullable in NAMES:
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, existing_type=sa.String(old), type_=sa.String(new), existing_nullable=nullable)
