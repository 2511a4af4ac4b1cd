"""Rows of webhook_endpoints: the shop's endpoints, which are notified in addition to the delivery hook."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update

from lnpay.domain.model import EndpointSettings, WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.sql import Sought, checked, read_rows
from lnpay.repository.tables import webhook_endpoints as t

_COLUMNS = tuple(t.c[one.name] for one in fields(WebhookEndpoint))

_EVERY = select(*_COLUMNS).where(t.c.deleted_at.is_(None)).order_by(t.c.id)

_BY_ID = select(*_COLUMNS).where(t.c.id == bindparam("sought"), t.c.deleted_at.is_(None))


class WebhookEndpoints:
    """Queries about webhook endpoints inside one transaction. Deleted ones are never returned."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, public_id: str, settings: EndpointSettings, set_by: EndpointSetter, at: datetime) -> None:
        """Add an endpoint."""
        values = {**_values_of(settings), "public_id": public_id, "set_by": set_by, "created_at": at}
        self._connection.execute(insert(t).values(values))

    def every(self) -> list[WebhookEndpoint]:
        """Every endpoint, oldest first."""
        return self._read(_EVERY)

    def enabled(self) -> list[WebhookEndpoint]:
        """The enabled endpoints, oldest first."""
        return [one for one in self.every() if one.is_enabled]

    def find(self, endpoint_id: int) -> WebhookEndpoint | None:
        """The endpoint that a message is for; None if it was deleted."""
        return next(iter(self._read(_BY_ID, {"sought": endpoint_id})), None)

    def find_by_public_id(self, public_id: str) -> WebhookEndpoint | None:
        """The endpoint with that public id."""
        # The name comes from a URL, and PostgreSQL raises an error for a NUL. No name of ours has one.
        if not is_printable_ascii(public_id):
            return None
        statement = select(*_COLUMNS).where(t.c.public_id == public_id, t.c.deleted_at.is_(None))
        return next(iter(self._read(statement)), None)

    def update(self, endpoint_id: int, settings: EndpointSettings, set_by: EndpointSetter) -> bool:
        """Replace the endpoint's settings. False if it was deleted."""
        statement = update(t).where(t.c.id == endpoint_id, t.c.deleted_at.is_(None))
        values = {**_values_of(settings), "set_by": set_by}
        return self._connection.execute(statement.values(values)).rowcount == 1

    def delete(self, endpoint_id: int, at: datetime) -> bool:
        """Mark it deleted and erase its secret. The row stays, because messages refer to it. False if it was
        deleted.
        """
        statement = update(t).where(t.c.id == endpoint_id, t.c.deleted_at.is_(None))
        values = {"deleted_at": at, "is_enabled": False, "secret": ""}
        return self._connection.execute(statement.values(values)).rowcount == 1

    def note_answer(self, endpoint_id: int, at: datetime, status: int | None, error: str | None) -> None:
        """Record the outcome of the last message. status: None without an answer."""
        values = {"last_answer_at": at, "last_status": status, "last_error": error}
        self._connection.execute(update(t).where(t.c.id == endpoint_id).values(values))

    def _read(self, statement: Select[Any], sought: Sought = None) -> list[WebhookEndpoint]:
        return read_rows(self._connection, t, statement, _to_endpoint, sought)


def _values_of(settings: EndpointSettings) -> dict[str, Any]:
    values = {one.name: getattr(settings, one.name) for one in fields(EndpointSettings)}
    return {**values, "events": " ".join(sorted(settings.events))}


def _to_endpoint(row: Row[Any]) -> WebhookEndpoint:
    values = dict(row._mapping)
    values["form"] = EndpointForm(row.form)
    values["set_by"] = EndpointSetter(row.set_by)
    values["events"] = frozenset(row.events.split())
    return checked(WebhookEndpoint(**values))
