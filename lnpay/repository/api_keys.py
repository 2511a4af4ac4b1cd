"""API keys. Only their hashes are stored. Revoked keys stay, as a record of who had access until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, insert, or_, select, update

from lnpay.domain.model import ApiKey, NewApiKey
from lnpay.domain.permissions import KeyPurpose, Permission
from lnpay.repository.sql import checked, read_one, read_rows
from lnpay.repository.tables import api_keys as t

_COLUMNS = tuple(column for column in t.c)

_HAS_ANY = select(exists().where(t.c.id.is_not(None)))

_UNREVOKED = select(t).where(t.c.key_hash == bindparam("sought"), t.c.revoked_at.is_(None))


class ApiKeys:
    """Queries about API keys inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, key: NewApiKey) -> ApiKey:
        """Store a new key."""
        values = {
            "key_hash": key.key_hash,
            "label": key.label,
            "permissions": " ".join(key.permissions),
            "made_for": str(key.made_for),
            "application_id": key.application_id,
            "redirect_host": key.redirect_host,
            "created_at": key.created_at,
        }
        return _to_key(self._connection.execute(insert(t).values(values).returning(*_COLUMNS)).one())

    def find(self, key_id: int) -> ApiKey | None:
        """The key with this id, revoked or not."""
        return read_one(self._connection, t, select(t).where(t.c.id == key_id), _to_key)

    def find_by_hash(self, key_hash: str) -> ApiKey | None:
        """The key whose secret has this hash, unless it is revoked."""
        return read_one(self._connection, t, _UNREVOKED, _to_key, {"sought": key_hash})

    def every(self) -> list[ApiKey]:
        """Every key ever created, newest first."""
        return read_rows(self._connection, t, select(t).order_by(t.c.id.desc()), _to_key)

    def has_any(self) -> bool:
        """Whether a key was ever created, revoked ones included."""
        return bool(self._connection.execute(_HAS_ANY).scalar())

    def revoke(self, key_id: int, at: datetime) -> bool:
        """Revoke a key. False if no unrevoked key has this id."""
        statement = update(t).where(t.c.id == key_id, t.c.revoked_at.is_(None)).values(revoked_at=at)
        return self._connection.execute(statement).rowcount == 1

    def note_use(self, key_id: int, at: datetime, unless_within: timedelta) -> None:
        """Record the use of a key, unless a recent use is recorded. A use later than `at` was dated by a wrong
        clock.
        """
        last = t.c.last_used_at
        is_old = or_(last.is_(None), last <= at - unless_within, last > at)
        self._connection.execute(update(t).where(t.c.id == key_id, is_old).values(last_used_at=at))


def _to_key(row: Row[Any]) -> ApiKey:
    known = set(row.permissions.split())
    key = ApiKey(
        row.key_hash,
        row.label,
        # A permission of a later version grants nothing here.
        tuple(one for one in Permission if one in known),
        KeyPurpose(row.made_for),
        row.application_id,
        row.redirect_host,
        row.created_at,
        row.id,
        row.last_used_at,
        row.revoked_at,
    )
    return checked(key)
