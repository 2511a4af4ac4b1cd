"""Who is logged in: a signed cookie that expires, and the token that proves that a form is ours.

Both are signed with a key derived from ADMIN_PASSWORD, so changing the password ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request, session

from lnpay.runtime.backend import Access
from lnpay.web.context import current_backend

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)

SEEN_EVERY = timedelta(minutes=1)
"""The cookie is rewritten at most this often."""

LOGGED_OUT = "admin logged out"
"""The milestone that ends every session begun before it, including one in a copied cookie."""

KNOWN_COOKIE = "lnpay_admin_known"
KNOWN_FOR = timedelta(days=365)


def set_up_sessions(app: Flask, access: Access) -> None:
    """Let `app` keep sessions for the operator only."""
    public = urlsplit(access.public_url or "")
    # Slow on purpose, so that a stolen cookie does not allow guessing the password.
    key = hashlib.scrypt(access.admin_password.encode(), salt=b"lnpay admin session", n=2**14, r=8, p=1)
    app.secret_key = key
    app.config.update(
        SESSION_COOKIE_NAME="lnpay_admin",
        SESSION_COOKIE_PATH=f"{public.path}/admin",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=public.scheme == "https",
    )


def begin_session(now: datetime) -> None:
    """Begin a session, under a new id."""
    session.clear()
    session.update(id=secrets.token_urlsafe(16), began_at=now.timestamp(), seen_at=now.timestamp())


def end_sessions(now: datetime) -> None:
    """Log out, everywhere."""
    session.clear()
    with current_backend().repository.transaction() as tx:
        tx.limits.reach_milestone(LOGGED_OUT, now)


def is_logged_in(now: datetime) -> bool:
    """Whether this request belongs to a session that has not expired. Extends the session."""
    if "id" not in session:
        return False
    began_at, seen_at = (datetime.fromtimestamp(session[name], UTC) for name in ("began_at", "seen_at"))
    with current_backend().repository.reading() as tx:
        logged_out_at = tx.limits.milestone(LOGGED_OUT)
    is_over = now - began_at >= LONGEST or now - seen_at >= IDLE
    if is_over or (logged_out_at is not None and logged_out_at >= began_at):
        session.clear()
        return False
    if now - seen_at >= SEEN_EVERY:
        session["seen_at"] = now.timestamp()
    return True


def form_token() -> str:
    """The token that every form of this session contains."""
    return _signature("form", session["id"]) if "id" in session else ""


def is_form_ours() -> bool:
    """Whether this request's form was issued to this session."""
    return hmac.compare_digest(request.form.get("form_token", "").encode(), form_token().encode())


def is_from_here() -> bool:
    """Whether this request comes from one of our pages, according to the browser; programs send no such header."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    public = urlsplit(current_backend().access.public_url or "")
    ours = {f"{request.scheme}://{request.host}", f"{public.scheme}://{public.netloc}"}
    return origin is None or origin in ours


def known_browser() -> str | None:
    """The name of a browser that has been logged in before; None for a stranger."""
    name, _, signature = request.cookies.get(KNOWN_COOKIE, "").partition(".")
    is_ours = hmac.compare_digest(signature.encode(), _signature("browser", name).encode())
    return name if name and is_ours else None


def remember_browser(response: Response) -> None:
    """Recognise this browser at its next login."""
    name = known_browser() or secrets.token_urlsafe(16)
    response.set_cookie(
        KNOWN_COOKIE,
        f"{name}.{_signature('browser', name)}",
        max_age=KNOWN_FOR,
        path=current_app.config["SESSION_COOKIE_PATH"],
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Strict",
    )


def _signature(label: str, text: str) -> str:
    key = current_app.secret_key
    assert isinstance(key, bytes)  # noqa: S101 - set_up_sessions has made it
    return hmac.new(key, f"{label} {text}".encode(), hashlib.sha256).hexdigest()
