"""Pages for people: a demo shop, a wallet, the provider's ledger, a panel of faults. No scripts needed."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Flask, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from lnpay.sandbox.invoices import PaymentRefused
from lnpay.sandbox.presets import PRESETS
from lnpay.sandbox.shop import BackendFailed, Order, place_order

if TYPE_CHECKING:
    from lnpay.sandbox.simulator import Simulator

REFRESH_SECONDS = 3
MOST_SECONDS = 30 * 86_400

Page = str | Response | tuple[str, int]

pages = Blueprint("pages", __name__)

_REFUSALS = {
    "unknown": "This is not a payment request of this sandbox.",
    "expired": "The payment request has expired: it can no longer be paid.",
    "paid": "This was paid already.",
    "pending": "A payment of this is on its way.",
    "cancelled": "The shop has cancelled this.",
}


@cache
def people_app() -> Flask:
    """The one Flask app of all simulators; each request carries its own in the environ."""
    app = Flask("lnpay.sandbox", template_folder="templates", static_folder=None)
    app.register_blueprint(pages)
    app.add_template_filter(_when, "when")
    app.add_template_filter(_sats, "sats")
    app.context_processor(lambda: {"sim": _sim(), "now": _sim().now()})
    return app


def _sim() -> Simulator:
    return cast("Simulator", request.environ["sandbox.simulator"])


def _when(moment: datetime) -> str:
    return f"{moment:%d %b %H:%M:%S}"


def _sats(amount: int) -> str:
    return f"{amount:,}".replace(",", " ")


def _show(template: str, **values: object) -> str:
    """A page, rendered while nothing changes."""
    with _sim().lock:
        return render_template(template, **values)


@pages.get("/")
def index() -> Page:
    """What there is."""
    return _show("index.html", base_url=request.host_url.rstrip("/"))


@pages.get("/shop")
def show_shop() -> Page:
    """The order form, and the orders so far."""
    return _show("shop.html", form={}, problem=None)


@pages.post("/shop")
def order() -> Page:
    """Place an order; LNPay makes the invoice."""
    try:
        placed = place_order(
            _sim(),
            product=request.form.get("product", "").strip() or "Something",
            amount=request.form.get("amount", ""),
            address=request.form.get("address", "").strip(),
        )
    except BackendFailed as failure:
        return _show("shop.html", form=request.form, problem=str(failure)), 502
    return redirect(url_for("pages.show_order", order_id=placed.order_id), 303)


@pages.get("/shop/orders/<order_id>")
def show_order(order_id: str) -> Page:
    """One order: how to pay it, and whether it is paid."""
    found: Order | None = _sim().shop.orders.get(order_id)
    if found is None:
        abort(404)
    return _show("order.html", order=found, refresh_seconds=None if found.is_paid else REFRESH_SECONDS)


@pages.get("/wallet")
def show_wallet() -> Page:
    """The customer's wallet."""
    return _show("wallet.html", payment_request=request.args.get("payment_request", ""), notice=None)


@pages.post("/wallet")
def pay() -> Page:
    """Pay a payment request, in time or late."""
    text, late = request.form.get("payment_request", ""), "late" in request.form
    try:
        _sim().pay_invoice(text, late_seconds=_sim().config.late_seconds if late else 0)
    except PaymentRefused as refusal:
        return _show("wallet.html", payment_request=text, notice=_REFUSALS[refusal.reason], is_bad=True), 409
    return _show("wallet.html", payment_request="", notice="Paid late." if late else "Paid.")


@pages.get("/ledger")
def show_ledger() -> Page:
    """The provider's book."""
    return _show("ledger.html")


@pages.get("/faults")
def show_faults() -> Page:
    """The panel of faults and the clock."""
    return _show("faults.html", presets=PRESETS)


@pages.post("/faults")
def set_fault() -> Page:
    """Set one of the common faults, or clear them all."""
    name = request.form.get("preset", "")
    with _sim().lock:
        if name == "clear":
            _sim().faults.remove()
            _sim().shop.answer_with(200, 0)
        elif name in PRESETS:
            PRESETS[name].apply(_sim())
        else:
            abort(400)
    return redirect(url_for("pages.show_faults"), 303)


@pages.post("/faults/clock")
def move_clock() -> Page:
    """Let time pass."""
    text = request.form.get("seconds", "")
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_SECONDS):
        abort(400)
    _sim().clock.advance(int(text))
    _sim().tick()
    return redirect(url_for("pages.show_faults"), 303)
