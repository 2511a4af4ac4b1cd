"""What the operator sees: the overview, the list of invoices, and one invoice."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask import render_template, request, url_for

from lnpay.domain.errors import NotFound
from lnpay.domain.model import Refund
from lnpay.domain.states import REFUNDABLE, DeliveryState, InvoiceState, RefundKind, RefundState
from lnpay.monitoring.overview import (
    MOST_SHOWN,
    attention,
    last_days,
    last_passes,
    provider,
)
from lnpay.refunds.by_hand import by_hand_at
from lnpay.repository.queries.searches import InvoiceRow, InvoiceTotal
from lnpay.runtime.backend import Backend
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.admin.chart import draw
from lnpay.web.admin.filters import InvoiceQuery, position_text, read_invoice_query, read_refund_query
from lnpay.web.admin.timeline import timeline
from lnpay.web.context import current_backend

DAYS_SHOWN = 30
PAGE = 50

_MEASURES: dict[str, Callable[[InvoiceTotal], int]] = {"payments": lambda one: one.count, "sats": lambda one: one.sats}


@blueprint.get("")
def show_overview() -> str:
    """First what needs the operator, then the figures."""
    backend = current_backend()
    now = backend.clock()
    passes = last_passes(backend.repository)
    days = last_days(backend.repository, now, DAYS_SHOWN)
    unit = "sats" if request.args.get("chart") == "sats" else "payments"
    return render_template(
        "admin/overview.html",
        attention=attention(backend.repository, now),
        days=days,
        unit=unit,
        chart=draw(days, _MEASURES[unit]),
        passes=passes,
        has_several_hosts=len({one.host for made in passes.values() for one in made}) > 1,
        provider=provider(backend.repository, now),
        rate=backend.issuer.rates.status().rate,
        most_shown=MOST_SHOWN,
        now=now,
        refund_link=refund_link,
        by_hand_from=by_hand_from,
    )


@blueprint.get("/invoices")
def show_invoices() -> str:
    """A page of invoices, the newest first."""
    query = read_invoice_query(request.args)
    rows, has_newer, has_older = _page(current_backend(), query)
    return render_template(
        "admin/invoices.html",
        rows=rows,
        fields=query.fields,
        newer=position_text(rows[0].place) if rows and has_newer else None,
        older=position_text(rows[-1].place) if rows and has_older else None,
        invoice_states=InvoiceState,
        refund_states=RefundState,
        delivery_states=DeliveryState,
    )


def _page(backend: Backend, query: InvoiceQuery) -> tuple[list[InvoiceRow], bool, bool]:
    """The rows of a page, and whether there are newer and older ones."""
    with backend.repository.reading() as tx:
        if query.after is not None:
            rows = tx.searches.oldest(query.wanted, PAGE + 1, after=query.after)
            return rows[-PAGE:], len(rows) > PAGE, True
        rows = tx.searches.newest(query.wanted, PAGE + 1, before=query.before)
        return rows[:PAGE], query.before is not None, len(rows) > PAGE


@blueprint.get("/refunds")
def show_refunds() -> str:
    """A page of refunds of every kind, the newest first."""
    wanted, before, fields = read_refund_query(request.args)
    with current_backend().repository.reading() as tx:
        found = tx.refund_list.newest(wanted, PAGE + 1, before)
    rows = found[:PAGE]
    return render_template(
        "admin/refunds.html",
        rows=rows,
        fields=fields,
        is_further=before is not None,
        older=rows[-1].id if len(found) > PAGE else None,
        states=RefundState,
        kinds=RefundKind,
    )


@blueprint.get("/invoices/<invoice_id>")
def show_invoice(invoice_id: str) -> str:
    """One invoice: everything known about it, and the actions available."""
    backend = current_backend()
    now = backend.clock()
    with backend.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
        if invoice is None:
            raise NotFound("there is no such invoice")
        refunds = [(one, tx.refunds.history(one)) for one in tx.refund_requests.of_invoice(invoice.id)]
        left_sats = tx.refund_requests.left_sats(invoice.id) if invoice.state in REFUNDABLE else 0
        deliveries = tx.deliveries.of_invoice(invoice.id)
        endpoint_urls = {one.id: one.url for one in tx.webhook_endpoints.every()}
    return render_template(
        "admin/invoice.html",
        invoice=invoice,
        refunds=[one for one, _ in refunds],
        left_sats=left_sats,
        # The same form sent twice, by a double click or a reload, creates one refund.
        request_key=str(uuid.uuid4()),
        deliveries=deliveries,
        moments=timeline(invoice, refunds, deliveries, now, endpoint_urls),
        now=now,
        refund_link=refund_link,
        by_hand_from=by_hand_from,
    )


def refund_link(refund: Refund) -> str:
    """The page on which the customer gives an address, for the operator to send on."""
    path = url_for("refund.show", token=refund.token)
    public_url = current_backend().access.public_url
    return url_for("refund.show", token=refund.token, _external=True) if public_url is None else public_url + path


def by_hand_from(refund: Refund) -> str | None:
    """Until when a refund in flight is left to the workers; None if the operator may decide now."""
    free_at = by_hand_at(refund)
    return f"{free_at:%H:%M}" if free_at is not None and free_at > current_backend().clock() else None
