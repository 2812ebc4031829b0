"""The database: tables, sessions, queries, migrations. See service/README.md."""

from service.db.errors import DatabaseUnavailable, SchemaMismatch, said, translate
from service.db.session import Database, ReadSession, WriteSession

__all__ = ["Database", "DatabaseUnavailable", "ReadSession", "SchemaMismatch", "WriteSession", "said", "translate"]
