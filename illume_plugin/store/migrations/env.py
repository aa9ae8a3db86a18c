"""Alembic's entry point: runs on the connection and inside the transaction that Store.migrate opened."""

from alembic import context

from illume_plugin.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
