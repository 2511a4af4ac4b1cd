"""Receive requests in a world: who uses them, how the provider treats them, and the truth about each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lnpay.domain.model import Refund
from lnpay.domain.receives import DUST_SATS, ReceiveWith
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.models import Payment, Receive, ReceiveRequest
from tests.simulation.draws import KINDS, OTHER_REQUEST, SERVER_ERRORS, Scene
from tests.simulation.installation import Installation
from tests.simulation.limits import check_limits
from tests.simulation.scheduler import Violation

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.watch import Customer, Watch
    from tests.simulation.world import SimulatedWorld

SHARE = 0.45
"""The share of worlds with receive requests, of those that may have them."""

PATHS = (
    ("POST", "/v1/receive-requests"), ("POST", "/v1/receive-requests"), ("GET", "/v1/receive-requests/receives"),
    ("GET", "/v1/receive-requests/*/receives"), ("GET", "/v1/receive-requests/*"),
)  # fmt: skip


def draw_receiving(seed: int, name: str, scene: Scene) -> dict[str, Any] | None:
    """How an installation receives at first, as settings; None if the world has no receive requests.

    Drawn from a separate generator, so that worlds without them stay the same.
    """
    if scene.kind != "any" or random.Random(f"receive {seed}").random() >= SHARE:
        return None
    chance = random.Random(f"receive {name} {seed}")
    if chance.random() < 0.2:
        return {}
    return {"receive_with": ReceiveWith.RECEIVE_REQUEST, "settle_in": chance.choice(("BTC", "BTC", "USD", "EUR"))}


def draw_provider(seed: int, config: SimulatorConfig) -> None:
    """Draw one of the ways in which Strike may treat receive requests."""
    chance = random.Random(f"receives of the provider {seed}")
    pick = chance.choice
    config.array_filters = pick(("both", "both", "comma", "repeated", "ignored", "refused"))
    config.unknown_array_form = pick(("refused", "narrow"))
    config.array_refusal_status = pick((400, 403, 414))
    config.receive_grace_seconds = pick((0, 5, 120, 3_000, 3_000))
    config.is_strike_user_held_to_expiry = pick((True, True, False))
    config.receives_per_request = pick(("many",) * 5 + ("one",))
    config.receive_amounts = pick(("any",) * 5 + ("not_less", "exact"))
    config.receive_read_lag_seconds = pick((0.0, 0.0, 0.0, 2.0, 8.0))
    config.receive_fields_missing = pick(([], [], [], ["amountCredited"], ["completed"], ["conversionRate"]))
    config.empty_receive_fields = pick(("null", "absent"))
    config.has_conversion_rate_of_one = pick((False, True))
    config.has_receive_id_in_events = pick((True, True, False))
    config.receive_default_top = pick((10, 50))


class Requests:
    """The truth about a world's receive requests, from the provider's records."""

    def __init__(self, simulator: Simulator) -> None:
        self._sim = simulator

    def find(self, strike_id: str | None) -> ReceiveRequest | None:
        """The request with this id; None if it is a provider's invoice."""
        return self._sim.receive_requests.by_id.get(strike_id or "")

    def state_of(self, request: ReceiveRequest) -> str:
        """Its state as if it were an invoice: PAID once any payment is final."""
        if final(request):
            return "PAID"
        return "PENDING" if request.receives else "UNPAID"

    def deadline_of(self, bolt11: str, seconds: int) -> datetime | None:
        """The payment deadline, if the customer has this many seconds; None if it is not a receive request."""
        request = self._sim.receive_requests.by_payment_request.get(bolt11)
        if request is None or request.bolt11 is None:
            return None
        ends_at = request.bolt11.expires_at.replace(microsecond=0)
        return min(request.created_at + timedelta(seconds=seconds), request.bolt11.expires_at, ends_at)


def price_of(request: ReceiveRequest) -> int:
    """The sats that a request asks for."""
    assert request.bolt11 is not None
    assert request.bolt11.sats is not None
    return request.bolt11.sats


def final(request: ReceiveRequest) -> list[Receive]:
    """The final payments."""
    return [one for one in request.receives if one.completed_at is not None]


def total_of(request: ReceiveRequest) -> int:
    """The sum of the final payments, in sats."""
    return sum(one.sats for one in final(request))


def is_whole(request: ReceiveRequest, deadline: datetime) -> bool:
    """Whether the payments made by `deadline` cover the price."""
    return sum(one.sats for one in final(request) if one.created_at <= deadline) >= price_of(request)


def is_any_in_time(request: ReceiveRequest) -> bool:
    """Whether any payment, final or pending, was made while the payment request was valid."""
    assert request.bolt11 is not None
    return any(one.created_at <= request.bolt11.expires_at for one in request.receives)


def owed_sats(watch: Watch, customer: Customer, request: ReceiveRequest) -> int:
    """The part of the payments so far that does not pay for the order."""
    assert customer.expires_at is not None
    is_sold = is_whole(request, customer.expires_at) or customer.invoice_id in watch.accepted
    return total_of(request) - (price_of(request) if is_sold else 0)


def check_refund(watch: Watch, customer: Customer, request: ReceiveRequest, payment: Payment) -> None:
    """No refund exceeds what is owed, and none is paid twice."""
    check_limits(watch, customer, payment)
    sent = sum(one.quote.sats for one in watch.payments_of(customer) if one.state != "FAILED")
    owed, received = owed_sats(watch, customer, request), total_of(request)
    if sent > received:
        raise Violation(f"{customer} paid {received} sats and got {sent} back")
    if sent > owed and not customer.refunds_asked:
        raise Violation(f"{customer} is owed {owed} sats, but got {sent} back")


def check_told(watch: Watch, customer: Customer, request: ReceiveRequest, body: dict[str, Any]) -> None:
    """The shop's messages about a request's payments are true."""
    kind, data = body["type"], body["data"]
    is_late = watch.is_late(customer)
    is_accepted = customer.invoice_id in watch.accepted
    if kind == "invoice.underpaid":
        received = data["received_sats"]
        if not 0 < received < price_of(request) or received > total_of(request):
            raise Violation(f"the shop got {kind} for {customer} with {received} sats")
    elif kind == "invoice.settled":
        if is_late and not is_accepted:
            raise Violation(f"the shop got {kind} for {customer}, which is untrue")
    elif kind == "invoice.paid_late":
        if not is_late:
            raise Violation(f"the shop got {kind} for {customer}, which is untrue")
    elif not (customer.refunds_asked or is_accepted or owed_sats(watch, customer, request)):
        raise Violation(f"the shop got {kind} for {customer}, who is owed nothing")


def check_end(watch: Watch, customer: Customer, request: ReceiveRequest, *, is_notified: bool, is_listed: bool) -> None:
    """Every payment was reported to the shop, refunded, or is in the operator's list."""
    if is_listed or watch.is_taken_for_sent(customer):
        return
    owed = owed_sats(watch, customer, request)
    if owed < total_of(request) and not is_notified:
        raise Violation(f"{customer} paid in time, but the shop was never notified")
    sent = sum(one.quote.sats for one in watch.payments_of(customer) if one.state == "COMPLETED")
    if owed - sent > DUST_SATS and not customer.refunds_asked:
        raise Violation(f"{customer} paid {total_of(request)} sats and is owed {owed} back, but got {sent}")


def unexplained(home: Installation, refund: Refund, payments: list[Payment]) -> list[Payment]:
    """The payments on the dashboard that may be this refund: its amount, its address, and no other refund's."""
    same = [one for one in payments if (one.quote.destination, one.quote.sats) == (refund.address, refund.amount_sats)]
    query = "SELECT COUNT(*) FROM refunds WHERE state = 'sent' AND address = ? AND amount_sats = ?"
    known = home.rows.query(query, refund.address, refund.amount_sats)[0][0]
    completed = [one for one in same if one.state == "COMPLETED"]
    return completed[known:] + [one for one in same if one.state != "COMPLETED"]


class Receiving:
    """Starts events about receive requests: installations that switch to them or back, and faults of the calls."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities
        self._chance = random.Random(f"receiving {world.seed}")

    def change_over(self, home: Installation) -> None:
        """The merchant switches RECEIVE_WITH and restarts everything. No order has ended meanwhile."""
        is_request = home.settings.receive_with is ReceiveWith.RECEIVE_REQUEST
        way = ReceiveWith.INVOICE if is_request else ReceiveWith.RECEIVE_REQUEST
        currency = "BTC" if is_request else self._chance.choice(("BTC", "BTC", "USD", "EUR"))
        home.settings = replace(home.settings, receive_with=way, settle_in=currency)
        for process in list(home.processes.values()):
            self.world.scheduler.kill_process(process)
        for name in home.names:
            home.start(name)
        home.has_changed_over = True
        self.world.counts["installations switched"] += 1
        self.world.scheduler.note(f"{home.name} receives with {way} from now on, in {currency}")

    def check_shown(self, customer: Customer, request_id: str, bolt11: str) -> None:
        """Only a request that the database knows is shown, never one whose creation got no answer."""
        if self.world.watch.requests.find(request_id) is None:
            return
        known = self.world.watch.homes[customer.home].rows.query(
            "SELECT strike_invoice_id FROM invoices WHERE bolt11 = ?", bolt11
        )
        if [row[0] for row in known] != [request_id]:
            raise Violation(f"{customer} was shown a receive request that is not in the database")

    def add_fault(self, home: Installation) -> None:
        """Set a fault of the calls about receive requests."""
        chance = self._chance
        if chance.random() < 0.15:
            field, value = chance.choice((("bolt11.invoice", OTHER_REQUEST), ("targetCurrency", "AUD")))
            self._activities.set_fault(
                Fault("POST", "/v1/receive-requests", "field_changed", field=field, value=value, times=1)
            )
            return
        method, path = chance.choice(PATHS)
        status, code = chance.choice(SERVER_ERRORS)
        self._activities.set_fault(
            Fault(
                method, path, chance.choice([kind for kind in KINDS if kind != "rate_limited"]),
                status=status, code=code, times=chance.choice((1, 2, 5)),
                skip=chance.choice((0, 0, 1)), seconds=2.0 if self.world.scene.is_tight else chance.choice((0.5, 12.0)),
                probability=chance.choice((1.0, 0.5)),
            )
        )  # fmt: skip


Part = Callable[[int], int]
"""Draws the sats of one payment from the price."""

PLANS: tuple[tuple[Part, ...], ...] = (
    (lambda asked: asked,), (lambda asked: asked,), (lambda asked: asked, lambda asked: asked),
    (lambda asked: asked, lambda asked: asked, lambda asked: asked), (lambda asked: asked + 500,),
    (lambda asked: asked + 5,), (lambda asked: 2 * asked,), (lambda asked: asked // 2,),
    (lambda asked: asked // 2, lambda asked: asked - asked // 2),
    (lambda asked: asked // 2, lambda asked: asked), (lambda asked: 1, lambda asked: 1, lambda asked: asked),
    (lambda asked: asked, lambda asked: 3, lambda asked: 20),
)  # fmt: skip
"""The ways in which customers pay: once, repeatedly, too much, too little, in parts, or too much several times."""
