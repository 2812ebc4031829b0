"""What all tables share: naming of constraints, column types, and the database's own clock."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Integer, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.functions import FunctionElement

from optim_core.spec.optimizers import MAX_NAME

# Fixed names, so that batch migrations can find a constraint on both databases.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


JsonType = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows itself only for a column declared exactly INTEGER.
BigId = BigInteger().with_variant(Integer(), "sqlite")


# What the catalogue takes for the name of an optimizer, with wrappers around it.
OptimizerName = String(MAX_NAME)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


class db_epoch(FunctionElement[float]):
    """Seconds since 1970 by the database's clock. Leases never depend on a worker's clock."""

    type = Double()
    inherit_cache = True


@compiles(db_epoch, "postgresql")
def _postgresql(element: db_epoch, compiler: Any, **kw: Any) -> str:
    # now() would be the start of the transaction.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(db_epoch, "sqlite")
def _sqlite(element: db_epoch, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"
