"""Requests, replies and routes of the simulated services: small, because a test run makes millions of calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, unquote

Environ = dict[str, Any]
Headers = list[tuple[str, str]]

JSON_TYPE = "application/json; charset=utf-8"


class Request:
    """One HTTP request, its body read. Path segments are split before they are unquoted."""

    def __init__(self, environ: Environ, body: bytes) -> None:
        self.environ = environ
        self.body = body
        self.method: str = environ["REQUEST_METHOD"]
        raw = environ.get("RAW_URI") or environ.get("PATH_INFO") or "/"
        self.path: str = raw.partition("?")[0]
        self.segments = tuple(unquote(part) for part in self.path.strip("/").split("/"))
        self.query: str = environ.get("QUERY_STRING", "")

    @cached_property
    def arguments(self) -> dict[str, str]:
        """Query parameters; of a repeated one the values are joined by commas."""
        return {name: ",".join(values) for name, values in self.lists.items()}

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """Query parameters, each value of a repeated one by itself."""
        return parse_qs(self.query, True)

    @property
    def client(self) -> str:
        """Address of the caller."""
        return str(self.environ.get("REMOTE_ADDR", "127.0.0.1"))

    @property
    def base_url(self) -> str:
        """Scheme and host the caller used."""
        host = self.environ.get("HTTP_HOST", "127.0.0.1")
        return f"{self.environ.get('wsgi.url_scheme', 'http')}://{host}"

    def header(self, name: str) -> str | None:
        """A request header, None when it was not sent."""
        if name in ("Content-Type", "Content-Length"):
            return self.environ.get(name.upper().replace("-", "_")) or None
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"))

    def headers(self) -> dict[str, str]:
        """All headers, names in lower case."""
        sent = {
            name[5:].lower().replace("_", "-"): str(value)
            for name, value in self.environ.items()
            if name.startswith("HTTP_")
        }
        if self.environ.get("CONTENT_TYPE"):
            sent["content-type"] = self.environ["CONTENT_TYPE"]
        return sent


@dataclass(slots=True)
class Reply:
    """An answer, complete."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=list)


def json_reply(status: int, value: object, headers: Headers | None = None) -> Reply:
    """An answer of `value` as JSON."""
    # JSON lets lone surrogates in, which UTF-8 cannot encode: they become "?".
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return Reply(status, body, [("Content-Type", JSON_TYPE), *(headers or [])])


def html_reply(status: int, text: str, headers: Headers | None = None) -> Reply:
    """An answer of a page."""
    return Reply(status, text.encode(), [("Content-Type", "text/html; charset=UTF-8"), *(headers or [])])


def read_json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, {} when it is empty. Raises ValueError for anything else."""
    value = json.loads(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A matching route, with the values of its placeholders."""

    target: T
    values: Mapping[str, str]


class Router(Generic[T]):
    """Finds targets by method and path. A pattern is like "/v1/invoices/{invoiceId}/quote"."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, int], list[tuple[tuple[str, ...], T]]] = {}

    def add(self, method: str, pattern: str, target: T) -> None:
        """Register a route; if two patterns match, the one added first wins."""
        parts = tuple(pattern.strip("/").split("/"))
        self._routes.setdefault((method, len(parts)), []).append((parts, target))

    def find(self, method: str, segments: tuple[str, ...]) -> Match[T] | None:
        """The first matching route."""
        for parts, target in self._routes.get((method, len(segments)), ()):
            values = _fit(parts, segments)
            if values is not None:
                return Match(target, values)
        return None

    def methods_of(self, segments: tuple[str, ...]) -> list[str]:
        """The methods a path knows."""
        return sorted(
            {method for method, count in self._routes if count == len(segments) and self.find(method, segments)}
        )


def _fit(parts: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    values = {}
    for part, segment in zip(parts, segments, strict=True):
        if part[0] == "{":
            values[part[1:-1]] = segment
        elif part != segment:
            return None
    return values


Handler = Callable[..., Reply]
