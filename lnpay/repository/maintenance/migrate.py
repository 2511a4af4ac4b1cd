"""Run the migrations over a connection whose transaction is open."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from lnpay.domain.errors import SchemaTooNew


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest version, in the transaction of `connection`.

    Raises SchemaTooNew when the database knows a migration that this program does not.
    """
    config = alembic_config()
    version = MigrationContext.configure(connection).get_current_revision()
    if version is not None:
        check_known(version)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_known(version: str) -> None:
    """Return when this program has the migration `version`. Raises SchemaTooNew."""
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if version not in known:
        raise SchemaTooNew(
            f"the database is at version {version}, which this LNPay does not know: "
            "start the newer LNPay that made it, or restore a backup from before"
        )


def alembic_config() -> Config:
    """Where the migrations are. No alembic.ini: one folder and no options."""
    config = Config()
    config.set_main_option("script_location", ini_value(Path(__file__).parents[1] / "migrations"))
    return config


def ini_value(path: Path) -> str:
    """A path as ini files hold it: there a single % begins a reference to another value."""
    return str(path).replace("%", "%%")
