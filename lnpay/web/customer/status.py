"""`GET /checkout/<token>/status`: the one question that every open page asks every two seconds.

Thousands of pages may be open at once, so the usual answer is made without Flask and, nearly always, without the
database: `StatusBoard` knows the state of every payment whose page is open, and reads them all again in one query
when what it knows is half a second old. `StatusDoor` stands before Flask and answers what the board knows; what it
does not know (a first question, a wrong token, a database that is away) goes on to the route of the same path.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.model import Clock
from lnpay.repository import Repository
from lnpay.repository.queries.payment_status import PaymentStatus
from lnpay.web.customer.stages import is_final, stage_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FRESH_SECONDS = 0.5
"""What is younger is not asked again."""

IN_LOOP_SECONDS = 0.45
"""What is younger is answered by the server's loop: it stays fresh until the answer is made, so no query runs there."""

STALE_SECONDS = 1.0
"""Older results are not shown, even while another request is refreshing them."""

FORGET_SECONDS = 30.0
"""After this long without a request the page counts as closed. A hidden page polls every ten seconds."""


_START, _END = "/checkout/", "/status"


@dataclass(frozen=True)
class StatusAnswer:
    """What one question is answered with. The body is nothing that time changes by itself, so `etag` names it."""

    body: bytes
    etag: str

    def headers(self) -> list[tuple[str, str]]:
        """For 200 and for 304."""
        # no-cache: kept by browsers and proxies, but only shown again after we have said that it is still true.
        return [("ETag", self.etag), ("Cache-Control", "no-cache")]

    def is_known_to(self, if_none_match: str | None) -> bool:
        """Whether the asker has this very answer. A proxy that compresses calls the ETag weak."""
        return any(one.strip().removeprefix("W/") == self.etag for one in (if_none_match or "").split(","))


@dataclass(slots=True)
class _Entry:
    payment_status: PaymentStatus
    read_at: float
    asked_at: float


class StatusBoard:
    """Where every payment stands that a page is open for. Safe to share between threads.

    monotonic: seconds that only go forward; an argument so that a test can move it.
    """

    def __init__(self, repository: Repository, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._refreshing = threading.Lock()

    def answer(self, token: str) -> StatusAnswer | None:
        """The answer for `token`, at most STALE_SECONDS old. None when no payment has it.

        Raises StorageUnavailable.
        """
        known = self.known_answer(token)
        if known is not None:
            return known
        with self._repository.reading() as tx:
            payment_status = tx.payment_statuses.by_token([token]).get(token)
        if payment_status is None:
            return None
        now = self._monotonic()
        self._entries[token] = _Entry(payment_status, now, now)
        return self._answer_of(payment_status)

    def known_answer(self, token: str) -> StatusAnswer | None:
        """The same for a payment that the board watches already. None: ask with `answer`."""
        entry = self._entries.get(token)
        if entry is None:
            return None
        entry.asked_at = self._monotonic()
        age = entry.asked_at - entry.read_at
        # One thread refreshes for all. The others need not wait for it while what they have is not old.
        if age > FRESH_SECONDS and self._refreshing.acquire(blocking=age > STALE_SECONDS):
            try:
                entry = self._refreshed(token)
            except StorageUnavailable:
                return None
            finally:
                self._refreshing.release()
        return None if entry is None else self._answer_of(entry.payment_status)

    def is_fresh(self, path: str) -> bool:
        """Whether a request for `path` is answered without waiting for anybody."""
        token = _token_of(path)
        entry = None if token is None else self._entries.get(token)
        return entry is not None and self._monotonic() - entry.read_at <= IN_LOOP_SECONDS

    def _refreshed(self, token: str) -> _Entry | None:
        """Read every watched payment again, in one query, unless another thread did so while we waited."""
        now = self._monotonic()
        entry = self._entries.get(token)
        if entry is not None and now - entry.read_at <= FRESH_SECONDS:
            return entry
        entries = self._entries
        watched = [one for one, seen in list(entries.items()) if now - seen.asked_at < FORGET_SECONDS]
        with self._repository.reading() as tx:
            found = tx.payment_statuses.by_token(watched)
        fresh = {one: _Entry(payment_status, now, entries[one].asked_at) for one, payment_status in found.items()}
        # What another thread adds at this moment is lost, and asked for again.
        self._entries = fresh
        return fresh.get(token)

    def _answer_of(self, payment_status: PaymentStatus) -> StatusAnswer:
        said = {
            "state": stage_of(payment_status, self._clock()),
            "expiration_time": payment_status.expires_at.isoformat(),
            "is_final": is_final(payment_status),
        }
        body = json.dumps(said, separators=(",", ":")).encode()
        return StatusAnswer(body, f'"{zlib.crc32(body):08x}"')


class StatusDoor:
    """WSGI in front of the app: answers the status of a payment that the board watches, and passes on all the rest.

    headers: those that every answer of the app has.
    """

    def __init__(self, app: WSGIApplication, board: StatusBoard, headers: Iterable[tuple[str, str]]) -> None:
        self._app = app
        self._board = board
        self._headers = list(headers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer here, or let the app answer."""
        answer = self._answer(environ)
        if answer is None:
            return self._app(environ, start_response)
        if answer.is_known_to(environ.get("HTTP_IF_NONE_MATCH")):
            start_response("304 NOT MODIFIED", [*answer.headers(), *self._headers])
            return []
        size = ("Content-Length", str(len(answer.body)))
        start_response("200 OK", [("Content-Type", "application/json"), size, *answer.headers(), *self._headers])
        return [answer.body]

    def _answer(self, environ: dict[str, Any]) -> StatusAnswer | None:
        token = _token_of(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "GET" else None
        if token is None:
            return None
        try:
            return self._board.answer(token)
        except StorageUnavailable:
            return None


def _token_of(path: str) -> str | None:
    """The token in `/checkout/<token>/status`; None of any other path."""
    if not (path.startswith(_START) and path.endswith(_END)):
        return None
    return path[len(_START) : -len(_END)]
