"""Run the migrations over a connection whose transaction is open."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from lnpay.domain.errors import SchemaTooNew
from lnpay.repository.maintenance.compatibility import (
    FIRST,
    check_usable,
    find_oldest_code,
    store_oldest_code,
)

log = logging.getLogger(__name__)


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest version, in the transaction of `connection`.

    A newer version that this program may use stays as it is. Raises SchemaTooNew when it may not.
    """
    config = alembic_config()
    scripts = ScriptDirectory.from_config(config)
    version = MigrationContext.configure(connection).get_current_revision()
    if version is not None and version not in _versions(scripts):
        _check_newer(connection, str(scripts.get_current_head()), version)
        return
    # Rows may need newer code than the tables do.
    of_rows = (None if version is None else find_oldest_code(connection)) or FIRST
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    store_oldest_code(connection, max(of_rows, oldest_code(scripts)))


def oldest_code(scripts: ScriptDirectory) -> str:
    """The oldest code that can use the tables as all migrations leave them."""
    return max(getattr(script.module, "oldest_code", FIRST) for script in scripts.walk_revisions())


def _versions(scripts: ScriptDirectory) -> set[str]:
    return {script.revision for script in scripts.walk_revisions()}


def _check_newer(connection: Connection, code: str, version: str) -> None:
    if find_oldest_code(connection) is None:
        check_known(version)
    check_usable(connection, code, version)
    log.warning("database of a newer version in use database=%s code=%s", version, code)


def check_known(version: str) -> None:
    """Return when this program has the migration `version`. Raises SchemaTooNew."""
    if version not in _versions(ScriptDirectory.from_config(alembic_config())):
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
