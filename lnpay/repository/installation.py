"""What this database calls itself at Strike."""

from __future__ import annotations

from sqlalchemy import Connection, select

from lnpay.domain.strike_names import new_installation
from lnpay.repository.sql import insert_unless_there
from lnpay.repository.tables import installation

_ONLY = 1


class Installation:
    """The one row about the database itself, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def name(self) -> str | None:
        """The part that all names of this database at Strike have in common; None before its first order."""
        return self._connection.execute(select(installation.c.name)).scalar()

    def make_name(self) -> str:
        """As `name`, made now if there is none. Two processes at once get the same one."""
        known = self.name()
        if known is not None:
            return known
        insert_unless_there(self._connection, installation, {"id": _ONLY, "name": new_installation()})
        made = self.name()
        assert made is not None  # noqa: S101 - the row is there: this insert made it, or another process's did
        return made
