"""The simulator's pages: a demo shop, a wallet, the provider's ledger and a fault panel. They work without scripts."""

from __future__ import annotations

import hashlib
import logging
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, redirect, request, url_for
from werkzeug.exceptions import HTTPException, InternalServerError

from lnpay.sandbox.people import shop
from lnpay.sandbox.people.asked import Asked, in_words, look_at
from lnpay.sandbox.people.page import Page, show, simulator
from lnpay.sandbox.people.presets import GROUPS, PRESETS
from lnpay.sandbox.shop.products import with_currency
from lnpay.sandbox.strike.envelope import ApiError, error_reply
from lnpay.sandbox.strike.invoices import PaymentRefused

log = logging.getLogger(__name__)

MOST_SECONDS = 30 * 86_400

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {lnpay}; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""No external resources, and no inline scripts or styles. Ordering may lead on to LNPay's payment page."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

STATIC = Path(__file__).parent / "static"
_TYPES = {"sandbox.css": "text/css", "icon.svg": "image/svg+xml", "live.js": "text/javascript"}

pages = Blueprint("pages", __name__)

_REFUSALS = {
    "unknown": "This is not a payment request of this sandbox.",
    "expired": "The payment request has expired: it can no longer be paid.",
    "paid": "This was paid already.",
    "pending": "A payment for this is already under way.",
    "cancelled": "The shop has cancelled this.",
    "amount_missing": "This request leaves the amount to you: say how many sats.",
    "amount_refused": "This request can only be paid with its own amount.",
    "amount_unreadable": "The amount has to be a whole number of sats.",
}


@cache
def people_app() -> Flask:
    """The one Flask app of all simulators; each request carries its own in the environ."""
    app = Flask("lnpay.sandbox.people", template_folder="templates", static_folder=None)
    app.register_blueprint(pages)
    app.register_blueprint(shop.pages)
    app.jinja_env.filters.update(when=_when, moment=_moment, sats=_sats, money=_money)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.context_processor(lambda: {"sim": simulator(), "now": simulator().now(), "static_url": _static_url})
    app.after_request(_with_headers)
    app.register_error_handler(HTTPException, _show_error)
    app.register_error_handler(Exception, _show_bug)
    return app


def _show_error(error: HTTPException) -> Page:
    """A page for a browser, the envelope for a program."""
    status = error.code or 500
    if status < 400:
        return error.get_response()
    if "text/html" not in request.accept_mimetypes.values():
        reply = error_reply(ApiError(error.name.upper().replace(" ", "_"), error.name, status=status), "")
        return Response(reply.body, status, dict(reply.headers))
    if status == 404:
        return show("nothing.html"), 404
    return show("trouble.html", status=status, name=error.name), status


def _show_bug(error: Exception) -> Page:
    log.error("unexpected error path=%s", request.path, exc_info=error)
    return _show_error(InternalServerError())


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers["Content-Security-Policy"] = POLICY.format(lnpay=simulator().config.backend_url)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _when(moment: datetime) -> str:
    return f"{moment:%d %b %H:%M:%S}"


def _moment(text: str) -> str:
    """A time in LNPay's display format."""
    return _when(datetime.fromisoformat(text).astimezone(UTC))


def _sats(amount: int) -> str:
    return f"{amount:,}"


def _money(amount: str) -> str:
    return with_currency(amount, simulator().config.shop_currency)


@cache
def _static_url(name: str) -> str:
    """The fingerprinted URL of a static file."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:8]}"


@pages.get("/static/<name>")
def static_file(name: str) -> Response:
    """A static file: the style sheet, the icon or the live update script."""
    if name not in _TYPES:
        abort(404)
    response = Response((STATIC / name).read_bytes(), mimetype=_TYPES[name])
    response.headers["Cache-Control"] = "public, max-age=86400, immutable"
    return response


@pages.get("/")
def index() -> Page:
    """The tour."""
    return show("index.html", base_url=request.host_url.rstrip("/"))


@pages.get("/wallet")
def show_wallet() -> Page:
    """The customer's wallet."""
    return _wallet(request.args.get("payment_request", ""))


@pages.post("/wallet")
def pay() -> Page:
    """Pay a payment request, in time or late, with the amount and the app that the customer chooses."""
    sim, text, late = simulator(), request.form.get("payment_request", ""), "late" in request.form
    asked, order = look_at(sim, text), sim.shop.order_to_pay(text)
    try:
        sats = _chosen_sats(request.form.get("sats", ""), asked)
        sim.pay_invoice(
            text,
            late_seconds=sim.config.late_seconds if late else 0,
            received_sats=sats,
            is_strike_user=request.form.get("app") == "strike",
        )
    except PaymentRefused as refusal:
        return _wallet(text, notice=_REFUSALS[refusal.reason], is_bad=True), 409
    if late and asked and asked.closes_with_expiry:
        notice = f"Paid {sim.config.late_seconds} s later: the request had not expired yet."
    elif late:
        notice = "Paid late. The payment deadline had passed, so the shop refunds it automatically."
    else:
        notice = in_words(sats or 0, asked.sats if asked and sats else sats or 0)
    return _wallet("", notice=notice, order=order)


@pages.post("/wallet/request")
def ask_for_money() -> Page:
    """Issue a payment request of the wallet's own: what a customer pastes where a refund is claimed."""
    sim = simulator()
    try:
        sats = _chosen_sats(request.form.get("ask", ""), None)
    except PaymentRefused as refusal:
        return _wallet("", notice=_REFUSALS[refusal.reason], is_bad=True), 409
    if sats is None:
        abort(400)
    with sim.lock:
        issued = sim.wallet.ask(sim, sats)
    return _wallet("", issued=issued)


def _chosen_sats(text: str, asked: Asked | None) -> int | None:
    """The amount the customer typed; None for what is asked for. Raises PaymentRefused."""
    digits = text.strip().replace(",", "")
    if not digits:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,15}", digits):
        raise PaymentRefused("amount_unreadable")
    if asked is not None and int(digits) == asked.sats:
        return None
    if asked is not None and not asked.takes_other_amounts:
        raise PaymentRefused("amount_refused")
    return int(digits)


def _wallet(payment_request: str, **values: object) -> str:
    asked = look_at(simulator(), payment_request)
    order = values.pop("order", None) or simulator().shop.order_to_pay(payment_request)
    form = request.form
    return show("wallet.html", payment_request=payment_request, asked=asked, order=order, form=form, **values)


@pages.get("/ledger")
def show_ledger() -> Page:
    """The provider's ledger."""
    return show("ledger.html")


@pages.get("/faults")
def show_faults() -> Page:
    """The fault panel, with the clock."""
    return show("faults.html", presets=PRESETS, groups=GROUPS)


@pages.post("/faults")
def set_fault() -> Page:
    """Set one of the common faults, or clear them all."""
    name = request.form.get("preset", "")
    with simulator().lock:
        if name == "clear":
            simulator().faults.remove()
            simulator().shop.answer_with(200, 0)
        elif name in PRESETS:
            PRESETS[name].apply(simulator())
        else:
            abort(400)
    return redirect(url_for("pages.show_faults"), 303)


@pages.post("/faults/clock")
def move_clock() -> Page:
    """Move the clock forward."""
    text = request.form.get("seconds", "")
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_SECONDS):
        abort(400)
    simulator().clock.advance(int(text))
    simulator().tick()
    return redirect(url_for("pages.show_faults"), 303)
