"""Compares every payment with the provider's ledger and the shop's records, once all remaining work is done."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, delete

from lnpay.repository.tables import provider_calls
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from lnpay.sandbox import SandboxServer, Simulator
from tests.scenarios.live import build_live_backend

MOST_ROUNDS = 300


def forget_calls(engine: Engine) -> None:
    """Forget the calls counted for Strike's limit, because these runs sell more than it would permit."""
    with engine.begin() as connection:
        connection.execute(delete(provider_calls))


@dataclass
class Sale:
    """An invoice as the shop saw it, with its refund address."""

    address: str
    invoice_id: str
    payment_request: str
    expires_at: datetime


@dataclass
class Books:
    """What customers paid, and what the merchant refunded: an address to its sats; None: all that was received."""

    simulator: Simulator
    paid: list[Sale] = field(default_factory=list)
    refunded: dict[str, tuple[Sale, int | None]] = field(default_factory=dict)

    def late(self) -> list[Sale]:
        """Sales that were paid too late."""
        at = {one.invoice_id: one.at for one in self.simulator.ledger.entries if one.kind == "in"}
        return [sale for sale in self.paid if at[sale.invoice_id] > sale.expires_at]

    def in_time(self) -> list[Sale]:
        """The others."""
        late = {sale.invoice_id for sale in self.late()}
        return [sale for sale in self.paid if sale.invoice_id not in late]

    def violations(self) -> list[str]:
        """What is wrong. Each late payment needs exactly one refund, each timely one exactly one message id."""
        ledger = self.simulator.ledger
        owed = {sale.address: ledger.received(sale.invoice_id) for sale in self.late()}
        for address, (sale, sats) in self.refunded.items():
            owed[address] = ledger.received(sale.invoice_id) if sats is None else sats
        payouts = ledger.payouts_per_destination()
        found = [f"{address}: {payouts[address]} payments" for address in {*owed, *payouts}
                 if payouts[address] != (address in owed)]  # fmt: skip
        found += [f"{address}: {ledger.sent(address)} of {sats} sats sent" for address, sats in owed.items()
                  if ledger.sent(address) != sats]  # fmt: skip
        ids: dict[str, set[str]] = defaultdict(set)
        for delivery in self.simulator.shop.accepted():
            ids[delivery.json()["data"]["invoice_id"]].add(delivery.headers["webhook-id"])
        told = Counter(sale.invoice_id for sale in self.in_time())
        found += [f"invoice {one}: messages under {len(ids[one])} ids" for one in {*told, *ids}
                  if len(ids[one]) != told[one]]  # fmt: skip
        return sorted(found)

    def drain(self, provider: SandboxServer, database_url: str, time_offset_seconds: int) -> int:
        """Have one process finish all remaining work, without faults and with time sped up. Returns its rounds."""
        self.simulator.faults.remove()
        self.simulator.config.payout_behaviours = {"*": "complete"}
        backend = build_live_backend(
            provider.url, database_url, self.simulator.clock.now, time_offset_seconds=time_offset_seconds
        )
        try:
            for number in range(MOST_ROUNDS):
                for one_pass in (main_pass, expired_pass, refund_pass):
                    one_pass(backend)
                if self._is_done(backend):
                    return number
                self.simulator.clock.advance(30)
                forget_calls(backend.repository.engine)
        finally:
            backend.close()
        return MOST_ROUNDS

    def _is_done(self, backend: Backend) -> bool:
        with backend.repository.reading() as tx:
            is_delivered = tx.deliveries.next_due_at() is None
        owed = len(self.late()) + len(self.refunded)
        return is_delivered and self.simulator.ledger.payouts_per_destination().total() >= owed
