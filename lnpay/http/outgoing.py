"""Every HTTP call that LNPay makes: bounded in total time and in size, and sent exactly as the caller says.

The time-outs of `requests` bound single steps: a name with ten addresses, a server that sends one byte of a header
every few seconds, or an answer without an end keeps a caller for minutes. Here the whole call has one deadline, name
resolution, TLS, headers and body included, after which its connection is cut.

- A login comes from the caller or from the URL. A ~/.netrc file never adds or replaces one. Proxies
  (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) and certificate authorities (REQUESTS_CA_BUNDLE) of the environment are used,
  but calls to this machine itself never go through a proxy.
- Redirects are not followed: they would carry keys and orders to another host.
- The size limit holds for the unpacked answer: a few compressed bytes can unpack to gigabytes.
- Nothing is repeated here: only callers know what may be.
- A call to an address that an API key has set reaches the public internet only. The name is resolved once, every
  address is checked, and the connection goes to one of those very addresses, so that no later answer of a name server
  changes where it leads. Such a call uses no proxy, which would resolve the name again.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypedDict, Unpack
from urllib.parse import unquote_to_bytes, urlsplit

import requests
import urllib3.exceptions
from requests.auth import AuthBase, HTTPBasicAuth

from lnpay.http.connections import Deadline, DeadlineAdapter, call_deadline, current_deadline

Timeout = tuple[float, float]
"""Seconds to connect, and seconds to wait for the answer. Their sum is the deadline of the whole call."""

_READ_BYTES = 16_384


class AnswerTooLarge(requests.RequestException):
    """The answer exceeds the caller's limit."""


class PrivateAddress(requests.ConnectionError):
    """The host is in a private network, which the caller does not permit. No connection was made."""


@dataclass(frozen=True)
class HttpAnswer:
    """An answer. Header names are case-insensitive."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class _Content(TypedDict, total=False):
    """What a call may send in addition to its method and URL."""

    params: Mapping[str, str | list[str]] | None
    headers: Mapping[str, str] | None
    json: object
    data: bytes | None


def call(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout: Timeout,
    max_bytes: int,
    auth: AuthBase | None = None,
    **sent: Unpack[_Content],
) -> HttpAnswer:
    """Make one call and read its whole answer.

    auth: adds the login to the request; without it, the URL's own login is sent.
    max_bytes: limit of the decompressed body.
    Raises requests.RequestException: ConnectTimeout if nothing was sent, ReadTimeout if the deadline passed later,
    AnswerTooLarge.
    """
    with call_deadline(sum(timeout)) as deadline:
        try:
            with _send(session, method, url, timeout, auth, sent) as response:
                content = _unpack(response, _read_all(response, max_bytes, deadline), max_bytes)
        except requests.ConnectTimeout:
            raise
        except (requests.RequestException, OSError) as error:
            if deadline.has_passed():
                raise requests.ReadTimeout(f"no whole answer within {sum(timeout):g} seconds") from error
            raise
        # A cut connection can look like the regular end of the headers or the body.
        if deadline.has_passed():
            raise requests.ReadTimeout(f"no whole answer within {sum(timeout):g} seconds")
        return HttpAnswer(response.status_code, response.headers, content)


def call_for_status(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout: Timeout,
    peek_bytes: int = 0,
    is_public_only: bool = False,
    **sent: Unpack[_Content],
) -> HttpAnswer:
    """Make one call whose status is all that counts. The body is at most the first `peek_bytes`, or empty.

    is_public_only: refuse private networks. The session must be new, because open connections are not checked.
    Raises requests.RequestException, as `call` does; PrivateAddress.
    """
    with call_deadline(sum(timeout), is_public_only=is_public_only) as deadline:
        try:
            with _send(session, method, url, timeout, None, sent) as response:
                if deadline.has_passed():  # truncated headers look complete
                    raise requests.ReadTimeout(f"no answer within {sum(timeout):g} seconds")
                content = b""
                if peek_bytes:
                    with suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError):
                        content = response.raw.read(peek_bytes, decode_content=False)
                return HttpAnswer(response.status_code, response.headers, content)
        except requests.ConnectTimeout:
            raise
        except (requests.RequestException, OSError) as error:
            if deadline.has_met_private:
                raise PrivateAddress("the host is in a private network") from error
            if deadline.has_passed():
                raise requests.ReadTimeout(f"no answer within {sum(timeout):g} seconds") from error
            raise


def pooled_session() -> requests.Session:
    """A session for many threads whose connections obey deadlines. It never retries by itself."""
    session = requests.Session()
    adapter = DeadlineAdapter(pool_connections=4, pool_maxsize=32, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _send(
    session: requests.Session, method: str, url: str, timeout: Timeout, auth: AuthBase | None, sent: _Content
) -> requests.Response:
    headers = {"Accept-Encoding": "gzip", **(sent.get("headers") or {})}
    return session.request(
        method,
        url,
        params=sent.get("params"),
        headers=headers,
        json=sent.get("json"),
        data=sent.get("data"),
        # Without `auth`, requests would prefer ~/.netrc to the URL's login.
        auth=auth or _UrlLogin(url),
        proxies=_exceptions_from_proxies(url),
        timeout=timeout,
        allow_redirects=False,
        stream=True,
    )


def _exceptions_from_proxies(url: str) -> dict[str, str] | None:
    """Arguments that make requests ignore the environment's proxies; None leaves it to NO_PROXY."""
    host = urlsplit(url).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost" or host.endswith(".localhost")
    deadline = current_deadline()
    is_checked = deadline is not None and deadline.is_public_only
    return {"no_proxy": host} if is_here or is_checked else None


def _read_all(response: requests.Response, max_bytes: int, deadline: Deadline) -> bytes:
    content = b""
    while True:
        try:
            piece = response.raw.read(min(_READ_BYTES, max_bytes + 1), decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout("the answer stopped") from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise requests.ConnectionError(f"the answer broke off: {type(error).__name__}") from error
        if not piece:
            return content
        content += piece
        if len(content) > max_bytes:
            raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
        if deadline.has_passed():
            raise requests.ReadTimeout("the answer comes too slowly")


def _unpack(response: requests.Response, content: bytes, max_bytes: int) -> bytes:
    """The decompressed body, at most `max_bytes`. Only gzip is ever requested."""
    if "gzip" not in response.headers.get("Content-Encoding", "").lower() or not content:
        return content
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise requests.exceptions.ContentDecodingError("the answer's compression is broken") from error
    if len(unpacked) > max_bytes:
        raise AnswerTooLarge(f"an answer of more than {max_bytes:,} bytes")
    if not unpacker.eof:
        raise requests.exceptions.ContentDecodingError("the answer's compression is incomplete")
    return unpacked


class _UrlLogin(AuthBase):
    """The login in a URL, if it has one, percent-decoded to bytes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._login = (unquote_to_bytes(parts.username or ""), unquote_to_bytes(parts.password or ""))

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if any(self._login):
            HTTPBasicAuth(*self._login)(request)
        return request
