"""Alembic environment: runs the migrations on the connection that migrate() opened."""

from alembic import context

from services.api.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
