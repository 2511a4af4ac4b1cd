"""The customer's page at /checkout/<token> and /refund/<token>."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, make_response, render_template, request, url_for

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.states import RefundKind
from lnpay.runtime.backend import ShopFace
from lnpay.web.context import current_backend
from lnpay.web.customer.languages import mark_language
from lnpay.web.customer.links import return_link
from lnpay.web.customer.qr import payment_uri, qr_svg
from lnpay.web.customer.stages import Stage, is_final, payment_status_of, refund_stage_of, stage_of

STATIC = Path(__file__).parents[1] / "static"

CUSTOMER_PATHS = ("/checkout/", "/refund/", "/i/")

MODAL_PATH = "/invoice"
"""The page inside a shop plugin's frame."""

SOURCE_NAMES = {"coingecko": "CoinGecko", "coinbase": "Coinbase", "strike": "Strike"}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors "
)


_MADE_UP = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

REFUND_REFRESH_SECONDS = 5
"""How often the page of a merchant's refund looks for news while it is being sent."""

_TROUBLES = {404: "missing", 429: "busy", 503: "busy"}
"""What the customer can do about an error; any other status is "broken"."""


def set_up_customer_page(app: Flask) -> None:
    """Register the filters and globals that the page's templates use."""
    app.jinja_env.globals.update(beside=beside, static=static, qr_svg=qr_svg, sandbox_url=sandbox_url, shop=shop)
    app.jinja_env.filters["source"] = lambda name: SOURCE_NAMES.get(name, name)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True


@dataclass(frozen=True)
class ModalView:
    """The page in a frame of a shop plugin's page. status: the payment's status, in the plugin's terms.

    parent: the origin of the shop's page, which may show the frame. None: only CORS_ORIGINS may.
    """

    status: str
    parent: str | None


def customer_page(
    invoice: Invoice,
    refund: Refund | None,
    *,
    partial_sats: int = 0,
    mistake: str | None = None,
    given: str = "",
    status: int = 200,
    modal: ModalView | None = None,
) -> Response:
    """Show the status of the payment of `invoice`, or of its refund.

    refund: of a payment that was late; or any other, on its own page, which then shows nothing else.
    partial_sats: what was received of the price, while it is not paid in full.
    mistake: why `given`, the address that the customer has just entered, is invalid, as the code of an InvalidRequest.
    """
    backend = current_backend()
    now = backend.clock()
    parents = backend.access.cors_origins
    if modal is not None and modal.parent is not None and modal.parent not in parents:
        parents = (*parents, modal.parent)
    return_url = return_link(invoice)
    options = invoice.order.checkout_options or {}
    stage, is_over = _stage_of_page(invoice, refund, partial_sats, now)
    page = render_template(
        "customer.html",
        stage=stage,
        is_final=is_over,
        invoice=invoice,
        refund=refund,
        partial_sats=partial_sats,
        missing_sats=max(0, invoice.amount_sats - partial_sats),
        order_name=order_name_of(invoice),
        # Empty if the archive of a paid invoice is damaged; its page then has no link.
        payment_uri=payment_uri(invoice.issue.bolt11) if invoice.issue.bolt11 else "",
        seconds_left=_seconds_left(invoice.expires_at, now),
        seconds_in_all=_seconds_left(invoice.expires_at, invoice.issue.opened_at),
        return_url=return_url,
        return_host=_host(return_url),
        is_returning=bool(options.get("redirectAutomatically")) and modal is None,
        modal=modal,
        mistake=mistake,
        given=given,
        parents=parents,
    )
    response = _answer(page, status, parents)
    if is_over and stage is Stage.REFUNDING:
        response.headers["Refresh"] = str(REFUND_REFRESH_SECONDS)
    return response


def _stage_of_page(invoice: Invoice, refund: Refund | None, partial_sats: int, now: datetime) -> tuple[Stage, bool]:
    """The stage to show, and whether the page need not poll."""
    if refund is not None and refund.kind is not RefundKind.LATE:
        # The page would poll for the payment, which was made long ago.
        return refund_stage_of(refund, now), True
    payment_status = payment_status_of(invoice, refund, partial_sats)
    return stage_of(payment_status, now), is_final(payment_status)


def order_name_of(invoice: Invoice) -> str | None:
    """The shop's id of the order; None if LNPay generated it, because it would mean nothing to a customer."""
    name = invoice.order_id
    return None if _MADE_UP.fullmatch(name) else name


def wants_trouble_page() -> bool:
    """Whether to show the error as a page: a customer's browser asked for a payment or refund page."""
    # Only at this depth, because the page's links are relative.
    is_page = request.path.startswith(CUSTOMER_PATHS) and request.path.count("/") == 2
    is_page = is_page or request.path == MODAL_PATH
    return is_page and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def trouble_page(status: int, retry_after_seconds: int) -> Response:
    """An error page in the customer's language. It reveals nothing internal."""
    kind = _TROUBLES.get(status, "broken")
    parents = current_backend().access.cors_origins
    response = _answer(render_template("trouble.html", kind=kind, parents=parents), status, parents)
    response.vary.add("Accept")
    if kind == "busy":
        # Reload without a script: the page has no input that could be lost.
        response.headers["Refresh"] = str(retry_after_seconds)
    return response


def _answer(page: str, status: int, parents: Sequence[str]) -> Response:
    response = make_response(page, status)
    response.headers["Content-Security-Policy"] = page_policy(parents)
    mark_language(response)
    return response


def page_policy(parents: Sequence[str]) -> str:
    """A Content-Security-Policy that lets pages of `parents` frame the page."""
    return _POLICY + (" ".join(parents) or "'none'")


def _seconds_left(until: datetime, now: datetime) -> int:
    return max(0, int((until - now).total_seconds()))


def shop() -> ShopFace:
    """The shop's branding."""
    return current_backend().shop_face


def sandbox_url() -> str | None:
    """Where the sandbox's wallet and tour are; None in production."""
    return current_backend().access.sandbox_url


def _host(url: str | None) -> str | None:
    """The host of a link, which a customer recognises."""
    return None if url is None else urlsplit(url).netloc


def beside(endpoint: str, **values: Any) -> str:  # noqa: ANN401 - as url_for takes them
    """A relative link from the current page to a route, so that it works under any proxy path."""
    upward = "../" * (request.path.count("/") - 1)
    return upward + url_for(endpoint, **values).removeprefix(request.script_root).removeprefix("/")


def static(name: str) -> str:
    """A fingerprinted link to a static file, so that browsers can cache it for long."""
    return beside("static", filename=name, v=_fingerprint(name))


@cache
def _fingerprint(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
