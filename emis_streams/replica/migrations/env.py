"""Run by Alembic. The connection comes from emis_streams.replica.migrate, else from DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from emis_streams import database, settings
from emis_streams.replica.migrate import VERSION_TABLE
from emis_streams.replica.schema import metadata


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


def _run_offline(dialect: str) -> None:
    context.configure(
        dialect_name=dialect,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run_from_settings() -> None:
    engine = database.migration_engine(settings.current().database_url)
    with engine.begin() as connection:
        _run(connection)
    engine.dispose()


if context.is_offline_mode():
    _run_offline(context.config.attributes.get("dialect", "mysql"))
elif "connection" in context.config.attributes:
    _run(context.config.attributes["connection"])
else:
    _run_from_settings()
