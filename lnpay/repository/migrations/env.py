"""Alembic asks this file how to reach the database: over the connection that `migrate` has opened."""

from alembic import context

from lnpay.repository.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
