"""Alembic's entry. ``service.db.migrate`` runs it with an open, locked connection."""

from alembic import context

from service.db.models import Base


def run() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        # One chain for both databases: SQLite changes a table by rebuilding it.
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
