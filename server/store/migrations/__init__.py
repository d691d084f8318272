"""Schema migrations (Alembic), run from code: `migrate()` on start or by `imageshare migrate`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from server.errors import SettingsError
from server.store.db import Database

_LOCK = 0x1AA6E5  # any constant that this application alone uses for its advisory lock


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def migrate(database: Database) -> None:
    """Brings the schema to the newest revision, in one transaction; processes that start together wait for each other."""
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(database: Database) -> None:
    """Raises `SettingsError` unless the schema is at the revision that this code was written for."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != head:
        raise SettingsError(
            f"the database schema is at revision {found or 'none'}, this version needs {head}: run `imageshare migrate`"
        )
