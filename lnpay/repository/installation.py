"""This installation's name at Strike, and its store id for Greenfield clients."""

from __future__ import annotations

import secrets
import string

from sqlalchemy import Connection, select, update

from lnpay.domain.strike_names import new_installation
from lnpay.repository.sql import insert_unless_there
from lnpay.repository.tables import installation

_ONLY = 1

_STORE_ID_CHARACTERS = 24

_NAME = select(installation.c.name)

_STORE_ID = select(installation.c.store_id)


class Installation:
    """The one row about the database itself, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def name(self) -> str | None:
        """The part that all of this database's names at Strike share; None before its first order."""
        return self._connection.execute(_NAME).scalar()

    def make_name(self) -> str:
        """Like `name`, created if missing. Two processes at once get the same one."""
        known = self.name()
        if known is not None:
            return known
        insert_unless_there(self._connection, installation, {"id": _ONLY, "name": new_installation()})
        made = self.name()
        assert made is not None  # noqa: S101 - the row exists: this insert or another process's created it
        return made

    def store_id(self) -> str | None:
        """The store id for Greenfield clients; None before the first API key."""
        return self._connection.execute(_STORE_ID).scalar()

    def make_store_id(self) -> str:
        """Like `store_id`, created if missing. Two processes at once get the same one."""
        known = self.store_id()
        if known is not None:
            return known
        self.make_name()
        is_unset = installation.c.store_id.is_(None)
        self._connection.execute(update(installation).where(is_unset).values(store_id=_new_store_id()))
        made = self.store_id()
        assert made is not None  # noqa: S101 - the row has one: from this update, or from another process's
        return made


def _new_store_id() -> str:
    """Letters and digits only: Greenfield clients put it into paths and separate it by colons."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_STORE_ID_CHARACTERS))
