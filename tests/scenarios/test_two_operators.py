"""Two operators at two servers over one database, who decide about the same late payments at the same time."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

from lnpay.domain.states import InvoiceState, LatePayments, RefundState
from lnpay.invoices.settle import Outcome, reconcile_invoice
from lnpay.refunds.send import send_due_refunds
from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox import SandboxServer, Simulator, SimulatorConfig
from tests.owing import ADDRESS
from tests.scenarios.live import build_live_backend, serving

PASSWORD = "a-password-of-the-tests"
ORDERS = 12
TOO_LATE_SECONDS = 600


class Operator:
    """An operator with a browser, logged in to one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["Connection"] = "close"
        self._session.post(f"{url}/admin/login", data={"password": PASSWORD}, timeout=30).raise_for_status()
        found = re.search(r'name="form_token" value="(\w+)"', self._session.get(f"{url}/admin", timeout=30).text)
        assert found is not None
        self._form_token = found[1]

    def press(self, invoice_id: str, action: str) -> str:
        """Press a button. Returns the message on the next page."""
        answer = self._session.post(
            f"{self._url}/admin/invoices/{invoice_id}/{action}", data={"form_token": self._form_token}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return " ".join(re.findall(r'<p class="said [a-z]+" role="[a-z]+">(.*?)</p>', answer.text))


def test_each_payment_is_accepted_or_refunded_and_never_both(database_url: str) -> None:
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))
    with SandboxServer(simulator) as provider:
        backends = [
            build_live_backend(
                provider.url,
                database_url,
                simulator.clock.now,
                admin_password=PASSWORD,
                late_payments=LatePayments.HOLD,
            )
            for _ in range(2)
        ]
        with serving(backends[0], is_sending=False) as one, serving(backends[1], is_sending=False) as other:
            accepting, approving = Operator(one), Operator(other)
            order = {"amount_fiat": "12.34", "ln_address": ADDRESS}
            answers = [requests.post(f"{one}/generate-invoice", json=order, timeout=30) for _ in range(ORDERS)]
            sold = [answer.json()["data"]["invoice"] for answer in answers]
            simulator.clock.advance(TOO_LATE_SECONDS)
            for answer in answers:
                simulator.pay_invoice(answer.json()["data"]["quote"]["lnInvoice"])
            ids = [invoice["invoiceId"] for invoice in sold]
            for invoice_id in ids:
                assert reconcile_invoice(backends[0].settlement, invoice_id) is Outcome.PAID_LATE

            with ThreadPoolExecutor(2) as pool:
                for invoice_id in ids:
                    pressed = [
                        pool.submit(who.press, invoice_id, action)
                        for who, action in ((accepting, "accept"), (approving, "approve"))
                    ]
                    said = [one.result() for one in pressed]
                    assert sum("Accepted" in text or "Approved" in text for text in said) == 1, said
            for backend in backends:
                send_due_refunds(backend.refund_sender)
                main_pass(backend)

            with backends[0].repository.reading() as tx:
                invoices = [tx.invoices.find_by_strike_id(invoice_id) for invoice_id in ids]
                refunds = Counter(refund.state for refund in tx.refunds.in_states(list(RefundState), 1_000))
    states = Counter(invoice.state for invoice in invoices if invoice is not None)
    accepted, refunded = states[InvoiceState.SETTLED], states[InvoiceState.PAID_LATE]
    assert accepted + refunded == ORDERS, states
    assert refunds == Counter({RefundState.CANCELED: accepted, RefundState.SENT: refunded})
    assert sum(entry.kind == "out" for entry in simulator.ledger.entries) == refunded
    settled = [message for message in simulator.shop.accepted() if message.json()["type"] == "invoice.settled"]
    assert len(settled) == accepted
