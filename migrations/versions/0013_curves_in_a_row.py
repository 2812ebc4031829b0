"""A learning curve is one row, not one row a point.

Revision 0013. ``curve.points``: 32 bytes a point, little-endian: the step as int64; training loss, loss and value as float64,
NaN where there is none. At most 500 points; of a longer curve evenly chosen ones are kept.
"""

import math
import struct
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MOST, UNITS = 500, 200
POINT = struct.Struct("<q3d")
NUMBERS = ("train_loss", "loss", "value")
measurement = sa.table(
    "measurement", sa.column("unit_id"), sa.column("number"), sa.column("step"), *(sa.column(name) for name in NUMBERS)
)
curve = sa.table("curve", sa.column("unit_id"), sa.column("number"), sa.column("points"))
unit = sa.table("unit", sa.column("id"))


def of_a_trial(table):
    """Columns that say which trial of which unit a row is of."""
    big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    unit_id = sa.ForeignKey("unit.id", name=f"fk_{table}_unit_id", ondelete="CASCADE")
    return [
        sa.Column("unit_id", big_id, unit_id, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
    ]


def batches(connection):
    """Ids of units, some at a time: no statement is as large as the table."""
    last = -1
    while ids := connection.scalars(
        sa.select(unit.c.id).where(unit.c.id > last).order_by(unit.c.id).limit(UNITS)
    ).all():
        last = ids[-1]
        yield ids


def upgrade() -> None:
    op.create_table(
        "curve",
        *of_a_trial("curve"),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("unit_id", "number", name="pk_curve"),
    )
    connection = op.get_bind()
    for ids in batches(connection):
        found = connection.execute(
            sa.select(measurement)
            .where(measurement.c.unit_id.in_(ids))
            .order_by(measurement.c.unit_id, measurement.c.number, measurement.c.step)
        )
        rows = []
        for (unit_id, number), group in groupby(found, key=lambda row: (row.unit_id, row.number)):
            points = list(group)
            if len(points) > MOST:
                points = [points[round(i * (len(points) - 1) / (MOST - 1))] for i in range(MOST)]
            packed = [
                POINT.pack(p.step, *(math.nan if x is None else x for x in (p.train_loss, p.loss, p.value)))
                for p in points
            ]
            rows.append({"unit_id": unit_id, "number": number, "points": b"".join(packed)})
        if rows:
            connection.execute(sa.insert(curve), rows)
    op.drop_table("measurement")


def downgrade() -> None:
    op.create_table(
        "measurement",
        *of_a_trial("measurement"),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in NUMBERS),
        sa.PrimaryKeyConstraint("unit_id", "number", "step", name="pk_measurement"),
    )
    connection = op.get_bind()
    for ids in batches(connection):
        for unit_id, number, points in connection.execute(sa.select(curve).where(curve.c.unit_id.in_(ids))).all():
            rows = [
                {"unit_id": unit_id, "number": number, "step": step}
                | {name: None if math.isnan(x) else x for name, x in zip(NUMBERS, numbers, strict=True)}
                for step, *numbers in POINT.iter_unpack(points)
            ]
            connection.execute(sa.insert(measurement), rows)
    op.drop_table("curve")
