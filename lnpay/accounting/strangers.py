"""Paid invoices at Strike without a row in this database: another program's, or payments that LNPay lost."""

from __future__ import annotations

from collections.abc import Callable

from lnpay.accounting.discrepancies import DiscrepancyKind, Reconciliation
from lnpay.domain.strike_names import read_strike_name
from lnpay.repository import Repository
from lnpay.repository.queries.ledger_queries import LedgerOrder
from lnpay.strike.invoices import StrikeInvoice


def report_strangers(
    repository: Repository,
    strangers: list[StrikeInvoice],
    result: Reconciliation,
    describe: Callable[[StrikeInvoice], str],
    *,
    is_shared: bool,
) -> None:
    """Add each of `strangers` to `result` as a second payment of an order, as lost here, or as foreign.

    is_shared: other programs make invoices in the same account. LNPay names every invoice: one without a name is not
    ours for certain.
    """
    named = {name: one for one in strangers if (name := _name(one)) is not None}
    result.foreign += len(strangers) - len(named)
    with repository.reading() as tx:
        installation = tx.installation.name()
        orders = tx.ledger.orders_among(_order_in(name) for name in named)
    for name, one in named.items():
        order = _order_in(name)
        known = orders.get(order)
        if is_shared and not _is_ours(name, installation, known):
            result.foreign += 1
        elif known is not None and known.strike_invoice_id:
            here = f"order {order} has the invoice {known.strike_invoice_id}"
            result.add(DiscrepancyKind.SECOND_PAYMENT, one.invoice_id, here, describe(one))
        else:
            here = "no such order" if known is None else "an order without an invoice"
            result.add(DiscrepancyKind.UNKNOWN_HERE, one.invoice_id, here, f"order {order}, {describe(one)}")


def _name(invoice: StrikeInvoice) -> str | None:
    """An invoice's name at Strike; None without one, or for one that no shop here can have given to an order."""
    name = invoice.raw.get("correlationId")
    return name if isinstance(name, str) and name and name.isprintable() else None


def _order_in(name: str) -> str:
    """The order in a name at Strike. The first version of LNPay used the order's id itself as the name."""
    known = read_strike_name(name)
    return known.order if known else name


def _is_ours(name: str, installation: str | None, order: LedgerOrder | None) -> bool:
    """Whether this database gave an invoice that name."""
    known = read_strike_name(name)
    if known is not None:
        return known.installation == installation
    return order is not None and order.strike_correlation_id == name
