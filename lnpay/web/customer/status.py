"""`GET /checkout/<token>/status`, which every open payment page polls every two seconds.

Thousands of pages may be open at once, so most polls are answered without Flask and without a database query:
`StatusCache` holds the state of every payment whose page is open, and refreshes them all in one query once they are
half a second old. `StatusMiddleware` answers from the cache in front of Flask. Everything else (a first poll, an
unknown token, an unavailable database) falls through to the Flask route of the same path.
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
"""Younger entries are not read again."""

IN_LOOP_SECONDS = 0.45
"""Younger entries are answered in the server's event loop. They stay fresh until the answer is written, so no query
runs in the loop."""

STALE_SECONDS = 1.0
"""Older results are not shown, even while another request is refreshing them."""

FORGET_SECONDS = 30.0
"""After this long without a request the page counts as closed. A hidden page polls every ten seconds."""


_START, _END = "/checkout/", "/status"


@dataclass(frozen=True)
class StatusAnswer:
    """The answer to one poll. Nothing in the body changes merely because time passes, so `etag` identifies it."""

    body: bytes
    etag: str

    def headers(self) -> list[tuple[str, str]]:
        """For 200 and for 304."""
        # no-cache: browsers and proxies may store it, but must revalidate before using it again.
        return [("ETag", self.etag), ("Cache-Control", "no-cache")]

    def is_known_to(self, if_none_match: str | None) -> bool:
        """Whether the client already has this answer. A compressing proxy marks the ETag as weak."""
        return any(one.strip().removeprefix("W/") == self.etag for one in (if_none_match or "").split(","))


@dataclass(slots=True)
class _Entry:
    payment_status: PaymentStatus
    read_at: float
    asked_at: float


class StatusCache:
    """The status of every payment with an open page. Thread-safe.

    monotonic: a monotonic clock in seconds; an argument so that a test can move it.
    """

    def __init__(self, repository: Repository, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._refreshing = threading.Lock()

    def answer(self, token: str) -> StatusAnswer | None:
        """The answer for `token`, at most STALE_SECONDS old; None if no payment has that token.

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
        """The cached answer; None if the payment is not cached yet, so that `answer` must read it."""
        entry = self._entries.get(token)
        if entry is None:
            return None
        entry.asked_at = self._monotonic()
        age = entry.asked_at - entry.read_at
        # One thread refreshes for all; the others use their entry meanwhile unless it is stale.
        if age > FRESH_SECONDS and self._refreshing.acquire(blocking=age > STALE_SECONDS):
            try:
                entry = self._refreshed(token)
            except StorageUnavailable:
                return None
            finally:
                self._refreshing.release()
        return None if entry is None else self._answer_of(entry.payment_status)

    def is_fresh(self, path: str) -> bool:
        """Whether a request for `path` can be answered without a query or a lock."""
        token = _token_of(path)
        entry = None if token is None else self._entries.get(token)
        return entry is not None and self._monotonic() - entry.read_at <= IN_LOOP_SECONDS

    def _refreshed(self, token: str) -> _Entry | None:
        """Refresh every cached payment in one query, unless another thread did so while this one waited."""
        now = self._monotonic()
        entry = self._entries.get(token)
        if entry is not None and now - entry.read_at <= FRESH_SECONDS:
            return entry
        entries = self._entries
        watched = [one for one, seen in list(entries.items()) if now - seen.asked_at < FORGET_SECONDS]
        with self._repository.reading() as tx:
            found = tx.payment_statuses.by_token(watched)
        fresh = {one: _Entry(payment_status, now, entries[one].asked_at) for one, payment_status in found.items()}
        # An entry that another thread adds right now is lost; its next poll reads it again.
        self._entries = fresh
        return fresh.get(token)

    def _answer_of(self, payment_status: PaymentStatus) -> StatusAnswer:
        said: dict[str, str | int] = {
            "state": stage_of(payment_status, self._clock()),
            "expiration_time": payment_status.expires_at.isoformat(),
            "is_final": is_final(payment_status),
        }
        if payment_status.partial_sats:
            said["received_sats"] = payment_status.partial_sats
            said["missing_sats"] = max(0, payment_status.amount_sats - payment_status.partial_sats)
        body = json.dumps(said, separators=(",", ":")).encode()
        return StatusAnswer(body, f'"{zlib.crc32(body):08x}"')


class StatusMiddleware:
    """WSGI middleware that answers status polls from the cache and passes every other request to the app.

    headers: the headers of every answer of the app.
    """

    def __init__(self, app: WSGIApplication, cache: StatusCache, headers: Iterable[tuple[str, str]]) -> None:
        self._app = app
        self._cache = cache
        self._headers = list(headers)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer from the cache, or let the app answer."""
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
            return self._cache.answer(token)
        except StorageUnavailable:
            return None


def _token_of(path: str) -> str | None:
    """The token in `/checkout/<token>/status`; None for any other path."""
    if not (path.startswith(_START) and path.endswith(_END)):
        return None
    return path[len(_START) : -len(_END)]
