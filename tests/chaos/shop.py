"""A shop and its customers: they order, pay in time or late; the merchant refunds some. Failed calls are repeated."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import requests

from tests.chaos.balance import Books, Sale
from tests.chaos.fleet import KEY

CUSTOMERS = 4
LATE_OF = 6
"""One in this many orders is paid late."""
REFUNDED_OF = 8
PAUSE_SECONDS = 0.2
FATES = ("complete", "complete", "pending3", "pendingfail3", "fail")
PARTLY_SATS = 1_000
WELL_IN_TIME_SECONDS = 3
"""Payments closer to the deadline are made late instead: these runs do not test which of two instants came first."""
PATIENCE_SECONDS = 180
"""Time for everything that remains when the shop closes."""


@dataclass(frozen=True)
class Wait:
    """A call that failed and was repeated. seconds: from the beginning of the first try to the answer."""

    failed_at: float
    failures: int
    seconds: float


class Shop:
    """Orders until it is closed."""

    def __init__(self, url: str, books: Books, seed: int) -> None:
        self.books = books
        self.orders = 0
        self.answers: Counter[str] = Counter()
        self.waits: list[Wait] = []
        self._unanswered: dict[str, str] = {}
        self._url = url
        self._seed = seed
        self._late: list[Sale] = []
        self._to_refund: list[tuple[str, Sale]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._buy, args=(who,), daemon=True) for who in range(CUSTOMERS)]
        self._others = [threading.Thread(target=one, daemon=True) for one in (self._pay_late, self._refund_some)]

    def open(self) -> None:
        """Begin to sell."""
        for thread in (*self._threads, *self._others):
            thread.start()

    def close(self) -> list[str]:
        """Take no more orders; pay and refund the rest. Returns the requests that were never answered."""
        self._closed.set()
        end = time.monotonic() + PATIENCE_SECONDS
        for thread in (*self._threads, *self._others):
            thread.join(max(0.0, end - time.monotonic()))
        self._over.set()
        return [f"never answered: {answer}" for answer in self._unanswered.values()]

    def _buy(self, who: int) -> None:
        rng = random.Random(f"{self._seed} {who}")
        with requests.Session() as session:
            session.trust_env = False
            for number in count(1):
                if self._closed.is_set():
                    return
                self._sell(session, rng, f"{who}-{number}", number + who)
                time.sleep(rng.uniform(0, 2 * PAUSE_SECONDS))

    def _sell(self, session: requests.Session, rng: random.Random, name: str, number: int) -> None:
        address = f"{rng.choice(FATES)}@customer{name}.example.com"
        body = {"amount_fiat": "12.34", "correlation_id": f"order-{name}", "ln_address": address}
        data = self._insist(session, "/generate-invoice", body)["data"]
        expires_at = datetime.fromisoformat(data["expiration_time"])
        sale = Sale(address, data["invoice"]["invoiceId"], data["quote"]["lnInvoice"], expires_at)
        simulator = self.books.simulator
        is_late = number % LATE_OF == 0 or (expires_at - simulator.now()).total_seconds() < WELL_IN_TIME_SECONDS
        if not is_late:
            simulator.pay_invoice(sale.payment_request)
        with self._lock:
            self.orders += 1
            (self._late if is_late else self.books.paid).append(sale)
            if not is_late and number % REFUNDED_OF == 1:
                self._to_refund.append((name, sale))

    def _insist(self, session: requests.Session, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Repeat the same request until it is answered. Returns the answer."""
        began = failed_at = 0.0
        failures = 0
        name = str(body.get("correlation_id", path))
        while True:
            asked = time.monotonic()
            try:
                headers["Authorization"] = f"Bearer {KEY}"
                answer = session.post(self._url + path, json=body, headers=headers, timeout=45)
                outcome, said = str(answer.status_code), answer.text
            except requests.RequestException as error:
                outcome = said = error.__class__.__name__
            with self._lock:
                self.answers[outcome] += 1
                self._unanswered[name] = f"{name}: {outcome} {said}"
            if outcome == "200":
                del self._unanswered[name]
                if failures:
                    self.waits.append(Wait(failed_at, failures, time.monotonic() - began))
                return dict(answer.json())
            # A payment that LNPay has not seen yet cannot be refunded yet.
            if outcome != "409":
                began, failed_at = began or asked, failed_at or time.monotonic()
                failures += 1
            if self._over.wait(PAUSE_SECONDS):
                raise SystemExit

    def _is_selling(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _pay_late(self) -> None:
        """Make the payments whose deadline has passed."""
        while self._late or self._is_selling():
            for sale in [one for one in self._late if self.books.simulator.now() > one.expires_at]:
                self.books.simulator.pay_invoice(sale.payment_request)
                with self._lock:
                    self._late.remove(sale)
                    self.books.paid.append(sale)
            time.sleep(PAUSE_SECONDS)

    def _refund_some(self) -> None:
        """Refund some orders that were paid in time a while ago."""
        with requests.Session() as session:
            session.trust_env = False
            while self._to_refund or self._is_selling():
                is_due = self._to_refund and self.books.simulator.now() > self._to_refund[0][1].expires_at
                if not is_due:
                    time.sleep(PAUSE_SECONDS)
                    continue
                self._refund(session, *self._to_refund[0])
                del self._to_refund[0]

    def _refund(self, session: requests.Session, name: str, sale: Sale) -> None:
        address = f"complete@refund{name}.example.com"
        sats = PARTLY_SATS if name.endswith(("1", "3", "5")) else None
        body: dict[str, Any] = {"ln_address": address} | ({"amount_sats": sats} if sats else {})
        self._insist(session, f"/invoices/{sale.invoice_id}/refunds", body, **{"Idempotency-Key": f"refund-{name}"})
        self.books.refunded[address] = (sale, sats)
