"""Alembic's entry: runs the migrations on the connection, and inside the transaction, that store.database gives it."""

from __future__ import annotations

from alembic import context

from store.schema import VERSION_TABLE, metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE)
context.run_migrations()
