"""How a database of one version becomes one of the next. store.database runs them; there is no alembic.ini."""
