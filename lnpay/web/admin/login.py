"""Logging in and out, and the check that guards every other route of the operator's pages."""

from __future__ import annotations

import re

from flask import Response, abort, flash, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.domain.errors import TooManyTries, Unauthorized
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.admin.login_backoff import log_in
from lnpay.web.admin.session import (
    begin_session,
    end_sessions,
    is_form_ours,
    is_from_here,
    is_logged_in,
    known_browser,
    remember_browser,
)
from lnpay.web.clients import client_address
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import beside

_PLACES = re.compile(r"(?:invoices(?:/[0-9A-Za-z-]{1,64})?|connections|connect)(?:\?[0-9A-Za-z=&%+._~@:-]{0,8000})?")
"""Where a login may lead, after /admin/: to a page of ours and nowhere else."""

_LOGIN = "admin.show_login"


@blueprint.before_request
def guard() -> AnyResponse | None:
    """Reject requests without a login, and forms that are not ours."""
    if request.method == "POST" and not is_from_here():
        abort(403)
    if request.endpoint in (_LOGIN, "admin.submit_login"):
        return None
    if not is_logged_in(current_backend().clock()):
        return _to_login()
    if request.method == "POST" and not is_form_ours():
        abort(403)
    return None


def _to_login() -> AnyResponse:
    if request.method == "POST":
        return redirect(beside(_LOGIN, ended="yes"), 303)
    place = request.full_path.removesuffix("?").removeprefix("/admin").removeprefix("/")
    link = beside(_LOGIN, next=place) if _PLACES.fullmatch(place) else beside(_LOGIN)
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        # A browser omits a strict cookie if a link on another site leads here, even through redirects. The next step
        # comes from a page of ours, so that an operator who is logged in is not asked for the password again.
        return make_response(render_template("admin/continue.html", link=link))
    return redirect(link, 303)


@blueprint.get("/login")
def show_login() -> AnyResponse:
    """The form that asks for the password."""
    if is_logged_in(current_backend().clock()):
        return redirect(_after_login(), 303)
    return _login_page()


@blueprint.post("/login")
def submit_login() -> AnyResponse:
    """Begin a session if the password is right and this caller may try now."""
    backend = current_backend()
    try:
        log_in(
            backend.repository,
            backend.access.admin_password,
            request.form.get("password", ""),
            client_address(request, backend.access.trusted_proxies),
            known_browser(),
            backend.clock(),
        )
    except Unauthorized:
        return _login_page(status=401)
    except TooManyTries as error:
        response = _login_page(status=429, wait_seconds=error.retry_after_seconds)
        response.headers["Retry-After"] = str(error.retry_after_seconds)
        return response
    begin_session(backend.clock())
    response = make_response(redirect(_after_login(), 303))
    remember_browser(response)
    return response


@blueprint.post("/logout")
def submit_logout() -> AnyResponse:
    """End every session."""
    end_sessions(current_backend().clock())
    return redirect(beside(_LOGIN), 303)


def _login_page(*, status: int = 200, wait_seconds: int = 0) -> Response:
    place = request.values.get("next", "")
    page = render_template(
        "admin/login.html",
        status=status,
        wait_seconds=wait_seconds,
        next=place if _PLACES.fullmatch(place) else "",
        has_ended="ended" in request.args,
    )
    return make_response(page, status)


def _after_login() -> str:
    place = request.values.get("next", "")
    overview = beside("admin.show_overview")
    return f"{overview}/{place}" if _PLACES.fullmatch(place) else overview


def say(text: str, *, is_good: bool = True) -> None:
    """Show this sentence at the top of the next page."""
    flash(text, "fine" if is_good else "wrong")
