"""Strike's receive requests: created, and paid any number of times."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from lnpay.sandbox.core import Core
from lnpay.sandbox.strike.bolt11_writer import PaymentTerms, write_address, write_payment_request
from lnpay.sandbox.strike.invoices import PaymentRefused, sats_of
from lnpay.sandbox.strike.ledger import LedgerEntry
from lnpay.sandbox.strike.models import Bolt11Part, Money, OnchainPart, Receive, ReceiveRequest, decimals_of
from lnpay.sandbox.strike.webhooks import WebhookService
from lnpay.sandbox.wallet import Wallet

STRIKE_USER = str(uuid.uuid5(uuid.NAMESPACE_URL, "https://sandbox.example/a-strike-user"))
"""The account that the customer pays from as a Strike user."""


class Bolt11Terms(NamedTuple):
    """Terms of a payment request. amount: None leaves it to the payer."""

    amount: Money | None
    description: str | None
    description_hash: str | None
    expiry_seconds: int


class OnchainTerms(NamedTuple):
    """Terms of an on-chain address. amount: None leaves it to the payer."""

    amount: Money | None


class ReceiveRequestService:
    """Every receive request of the account, and what arrived for them."""

    def __init__(self, core: Core, webhooks: WebhookService, wallet: Wallet) -> None:
        self._core = core
        self._webhooks = webhooks
        self._wallet = wallet
        self.by_id: dict[str, ReceiveRequest] = {}
        self.by_payment_request: dict[str, ReceiveRequest] = {}
        self.by_address: dict[str, ReceiveRequest] = {}
        self.receives: dict[str, Receive] = {}

    def create(self, target_currency: str, bolt11: Bolt11Terms | None, onchain: OnchainTerms | None) -> ReceiveRequest:
        """A new request, with the parts that are asked for. Raises ApiError EXCHANGE_RATE_NOT_AVAILABLE."""
        core = self._core
        request = ReceiveRequest(
            core.new_ordered_id(), core.now(), target_currency,
            self._payment_request(bolt11) if bolt11 else None, self._address(onchain) if onchain else None,
        )  # fmt: skip
        self.by_id[request.request_id] = request
        if request.bolt11:
            self.by_payment_request[request.bolt11.payment_request] = request
        if request.onchain:
            self.by_address[request.onchain.address] = request
        return request

    def _payment_request(self, asked: Bolt11Terms) -> Bolt11Part:
        core, preimage = self._core, self._core.new_secret()
        now, by_hash = core.now(), asked.description_hash
        terms = PaymentTerms(
            sats=self._sats(asked.amount),
            timestamp=int(now.timestamp()),
            expiry_seconds=asked.expiry_seconds,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=core.new_secret(),
            description=asked.description or "",
            description_hash=bytes.fromhex(by_hash) if by_hash else None,
        )
        return Bolt11Part(
            write_payment_request(terms), terms.payment_hash.hex(), preimage.hex(), asked.amount, terms.sats,
            None if by_hash else asked.description, by_hash, now + timedelta(seconds=asked.expiry_seconds),
        )  # fmt: skip

    def _address(self, asked: OnchainTerms) -> OnchainPart:
        return OnchainPart(write_address(self._core.new_secret()[:20]), asked.amount, self._sats(asked.amount))

    def _sats(self, amount: Money | None) -> int | None:
        return None if amount is None else sats_of(amount, self._core.strike_rate(amount.currency))

    def find(self, text: str) -> ReceiveRequest | None:
        """The request that a payment request or an address belongs to."""
        return self.by_payment_request.get(text) or self.by_address.get(text)

    def pay(
        self, text: str, *, sats: int | None, pending_seconds: float, reverts: bool, is_strike_user: bool
    ) -> Receive:
        """Receive a payment now. Raises PaymentRefused.

        text: the payment request or the address. sats: what arrives (None: what is asked for). pending_seconds: how
        long it stays PENDING; reverts: it then fails. is_strike_user: the payer is one, which moves the
        money inside Strike.
        """
        request = self.find(text)
        if request is None:
            raise PaymentRefused("unknown")
        is_onchain = text in self.by_address
        asked = request.onchain if is_onchain else request.bolt11
        assert asked is not None  # noqa: S101 - found by it
        amount_sats = self._permitted(request, asked.sats, sats)
        if isinstance(asked, Bolt11Part):
            self._require_open(asked, is_strike_user)
        way = "P2P" if is_strike_user else "ONCHAIN" if is_onchain else "LIGHTNING"
        receive = self._begin(request, way, amount_sats)
        seconds = self._core.config.onchain_pending_seconds if way == "ONCHAIN" else pending_seconds
        if not seconds:
            self._complete(receive)
            return receive
        self._tell("pending", receive)
        finish = self._revert if reverts else self._complete
        self._core.schedule.add(receive.created_at + timedelta(seconds=seconds), lambda: finish(receive))
        return receive

    def _permitted(self, request: ReceiveRequest, asked: int | None, given: int | None) -> int:
        """The sats of a payment, if the request may be paid with them now."""
        config = self._core.config
        if config.receives_per_request == "one" and request.receives:
            raise PaymentRefused("paid" if request.receives[-1].completed_at else "pending")
        sats = asked if given is None else given
        if sats is None or sats <= 0:
            raise PaymentRefused("amount_missing")
        is_less = asked is not None and sats < asked
        is_more = asked is not None and sats > asked
        if (is_less and config.receive_amounts != "any") or (is_more and config.receive_amounts == "exact"):
            raise PaymentRefused("amount_refused")
        return sats

    def _require_open(self, asked: Bolt11Part, is_strike_user: bool) -> None:
        config = self._core.config
        if is_strike_user and not config.is_strike_user_held_to_expiry:
            return
        if self._core.now() >= asked.expires_at + timedelta(seconds=config.receive_grace_seconds):
            raise PaymentRefused("expired")

    def _begin(self, request: ReceiveRequest, way: str, sats: int) -> Receive:
        core, is_strike_user = self._core, way == "P2P"
        currency = core.config.strike_user_currency if is_strike_user else "BTC"
        receive = Receive(
            core.new_ordered_id(), request, way, sats, self._worth(Money(sats, "BTC"), currency), core.now(),
            payer_account_id=STRIKE_USER if is_strike_user else None,
            onchain_transaction_id=core.new_secret().hex() if way == "ONCHAIN" else None,
        )  # fmt: skip
        request.receives.append(receive)
        self.receives[receive.receive_id] = receive
        return receive

    def _worth(self, amount: Money, currency: str) -> Money:
        """An amount in another currency at the rate of now, rounded down."""
        if currency == amount.currency:
            return amount
        exact = Decimal(amount.units) * self._rate(amount.currency, currency)
        places = decimals_of(currency) - decimals_of(amount.currency)
        return Money(int(exact.scaleb(places).to_integral_value(rounding=ROUND_FLOOR)), currency)

    def _rate(self, source: str, target: str) -> Decimal:
        core = self._core
        if source == target:
            return Decimal(1)
        rate = core.strike_rate(target) / core.strike_rate(source)
        return rate.quantize(Decimal("0.00000001") if target == "BTC" else Decimal("0.0001"))

    def _complete(self, receive: Receive) -> None:
        core, request = self._core, receive.request
        receive.completed_at = core.now()
        receive.rate = self._rate(receive.amount.currency, request.target_currency)
        receive.credited = self._worth(receive.amount, request.target_currency)
        core.balances.credit(receive.credited)
        self._wallet.sats -= receive.sats
        core.ledger.add(
            LedgerEntry(
                receive.created_at, "in", receive.sats, payment_id=receive.receive_id,
                payment_request=request.bolt11.payment_request if request.bolt11 else None,
                receive_request_id=request.request_id, credited=receive.credited,
            )
        )  # fmt: skip
        self._tell("completed", receive)

    def _revert(self, receive: Receive) -> None:
        receive.request.receives.remove(receive)
        del self.receives[receive.receive_id]

    def _tell(self, state: str, receive: Receive) -> None:
        details = {"receiveId": receive.receive_id} if self._core.config.has_receive_id_in_events else {}
        self._webhooks.emit(f"receive-request.receive-{state}", receive.request.request_id, details=details)

    def shown(self) -> list[Receive]:
        """The receives that reading shows now, the oldest first: each some time after it arrived."""
        lag = timedelta(seconds=self._core.config.receive_read_lag_seconds)
        return [one for one in self.receives.values() if self._core.now() >= one.created_at + lag]

    def is_shown_completed(self, receive: Receive) -> bool:
        """Whether reading shows it as completed now: some time after it did."""
        lag = timedelta(seconds=self._core.config.receive_read_lag_seconds)
        return receive.completed_at is not None and self._core.now() >= receive.completed_at + lag
