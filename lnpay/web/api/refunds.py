"""Refunds of paid orders: create, list, read and cancel them.

Every route needs a key, even if none was ever created: refunds send money, and anyone with its link can claim one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

# Python 3.11's own cannot be read by pydantic.
from typing_extensions import TypedDict

from lnpay.domain.addresses import MAX_ADDRESS_CHARACTERS, AddressRefused, parse_refund_address
from lnpay.domain.errors import NO_SUCH_INVOICE, InvalidRequest, NotFound
from lnpay.domain.model import Invoice, Refund
from lnpay.domain.money import MAX_SATS, parse_fiat
from lnpay.domain.permissions import Permission
from lnpay.domain.states import AmountBasis, CancelCause, RefundAsker, RefundKind, RefundState
from lnpay.refunds.merchant import RefundRequest, cancel_refund, create_refund, find_refund, list_refunds
from lnpay.web.api.answers import AmountFiat, InvoiceId, Moment
from lnpay.web.api.bodies import invalid_fields, read_json
from lnpay.web.api.schemas import IDEMPOTENCY_KEY, idempotency_key
from lnpay.web.authentication import Caller, require_key
from lnpay.web.context import current_backend

blueprint = Blueprint("refunds", __name__)

MAX_ID_DIGITS = 19

KEY_MISSING = (
    f"the header {IDEMPOTENCY_KEY} is missing: send a new value, such as a UUID, with each refund, and the same value "
    "when you repeat a request"
)


def _given(value: object) -> object:
    """Refuse null, because a shop that sends it by mistake must not refund the whole order."""
    if value is None:
        raise ValueError("must not be null: leave it out instead")
    return value


def _fiat_as_sent(value: object) -> object:
    if isinstance(value, bool | float | type(None)):
        raise ValueError('must be a string such as "12.34", or a number')
    return value


def _without_null(schema: dict[str, Any]) -> None:
    """An optional field: it may be omitted, but must not be null."""
    for one in schema["properties"].values():
        one.pop("default", None)


class CreateRefund(BaseModel):
    """How much to refund, and where to. Without an amount, everything that can still be refunded."""

    model_config = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, json_schema_extra=_without_null
    )

    amount_sats: Annotated[
        int | None,
        BeforeValidator(_given),
        Field(ge=1, le=MAX_SATS, description="In sats.", examples=[5_000]),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SATS}),
    ] = None
    amount_fiat: Annotated[
        Any,
        BeforeValidator(_fiat_as_sent),
        Field(description="In the invoice's currency, in place of amount_sats.", examples=["4.50"]),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]}),
    ] = None
    price: Annotated[
        Literal["sale", "today"] | None,
        BeforeValidator(_given),
        Field(
            description="The price that converts amount_fiat to sats: that of the sale (the default), or today's.",
            examples=["sale"],
        ),
        WithJsonSchema({"enum": ["sale", "today"]}),
    ] = None
    ln_address: Annotated[
        str | None,
        BeforeValidator(_given),
        Field(
            max_length=MAX_ADDRESS_CHARACTERS,
            description="Lightning address or LNURL. Left out, the customer is asked for one on the page claim_url.",
            examples=["alice@example.com"],
        ),
        WithJsonSchema({"type": "string", "maxLength": MAX_ADDRESS_CHARACTERS}),
    ] = None

    def basis(self) -> AmountBasis:
        """How the amount is given. Raises InvalidRequest if that contradicts itself."""
        has_fiat = self.amount_fiat is not None
        if has_fiat and self.amount_sats is not None:
            raise invalid_fields({"amount_fiat": "cannot be combined with amount_sats: send one of them"})
        if self.price is not None and not has_fiat:
            raise invalid_fields({"price": "goes with amount_fiat only"})
        if has_fiat:
            return AmountBasis.TODAY_PRICE if self.price == "today" else AmountBasis.SALE_PRICE
        return AmountBasis.WHOLE if self.amount_sats is None else AmountBasis.SATS


REFUND_ID = 17

RefundId = Annotated[int, Field(description="Identifies the refund in other calls.", examples=[REFUND_ID])]


class RefundAnswer(TypedDict):
    """One refund of an invoice."""

    id: RefundId
    invoice_id: InvoiceId
    kind: Annotated[
        RefundKind,
        Field(
            description="late: the payment came after its deadline; merchant: you asked for it; overpaid: more was "
            "received than the invoice asked for.",
            examples=["merchant"],
        ),
    ]
    state: Annotated[RefundState, Field(examples=["requested"])]
    amount_sats: Annotated[int, Field(description="What the customer gets.", gt=0, examples=[5_000])]
    fee_sats: Annotated[int | None, Field(description="Strike's fee for sending it; null: unknown.")]
    basis: Annotated[AmountBasis, Field(description="How the amount was given.", examples=["sale_price"])]
    amount_fiat: Annotated[AmountFiat | None, Field(description="If it was given in the invoice's currency.")]
    currency: Annotated[str, Field(description="Lower-case code of the invoice's currency.", examples=["usd"])]
    price: Annotated[
        str | None,
        Field(description="Of one bitcoin, by which amount_fiat was converted to sats.", examples=["97000.5"]),
    ]
    asked_by: Annotated[RefundAsker, Field(description="rule: LNPay itself.", examples=["api_key"])]
    ln_address: Annotated[str | None, Field(description="Where it goes.", examples=["alice@example.com"])]
    claim_url: Annotated[
        str,
        Field(
            description="The customer's page. Anyone who has this link can claim a refund that needs an address.",
            examples=["https://pay.shop.example/refund/9nXKXgmBHnuVxHD1sXZ3G4nO5wLrD0t4"],
        ),
    ]
    claim_expires_at: Annotated[Moment | None, Field(description="When it is withdrawn if it is not claimed.")]
    created_at: Moment
    sent_at: Moment | None
    canceled_at: Moment | None
    cancel_cause: CancelCause | None


class RefundList(TypedDict):
    """Every refund of an invoice."""

    refunds: Annotated[list[RefundAnswer], Field(description="The oldest first.", examples=[[]])]


@blueprint.post("/invoices/<invoice_id>/refunds")
def create(invoice_id: str) -> Response:
    """Refund a paid order; the same Idempotency-Key with the same body gives the same refund."""
    caller = require_key(Permission.REFUND_INVOICES)
    key = idempotency_key(request)
    if key is None:
        raise InvalidRequest(KEY_MISSING, errors={IDEMPOTENCY_KEY: "is missing"}, code="idempotency_key_missing")
    wanted = read_json(request, CreateRefund)
    backend = current_backend()
    with backend.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
    if invoice is None:
        raise NotFound(NO_SUCH_INVOICE)
    refund_request = _to_request(wanted, key, caller, invoice)
    try:
        refund = create_refund(backend.refund_issuer, invoice_id, refund_request)
    except InvalidRequest as error:
        # Only the price shows that an amount is less than a sat.
        raise invalid_fields({"amount_fiat": error.message}) from error
    backend.refund_dispatcher.wake()
    backend.delivery_dispatcher.wake()
    return jsonify(refund_answer(refund, invoice))


def _to_request(wanted: CreateRefund, key: str, caller: Caller, invoice: Invoice) -> RefundRequest:
    basis, amount_fiat, address = wanted.basis(), None, None
    if wanted.amount_fiat is not None:
        try:
            amount_fiat = parse_fiat(wanted.amount_fiat, invoice.order.currency)
        except InvalidRequest as error:
            raise invalid_fields({"amount_fiat": error.message}) from error
    if wanted.ln_address is not None:
        try:
            address = parse_refund_address(wanted.ln_address)
        except AddressRefused as error:
            raise invalid_fields({"ln_address": str(error)}) from error
    return RefundRequest(
        request_key=key,
        asked_by=RefundAsker.API_KEY,
        api_key_id=None if caller.key is None else caller.key.id,
        basis=basis,
        amount_sats=wanted.amount_sats,
        amount_fiat=amount_fiat,
        address=address,
    )


@blueprint.get("/invoices/<invoice_id>/refunds")
def show_all(invoice_id: str) -> Response:
    """Every refund of an invoice, of any kind."""
    require_key(Permission.REFUND_INVOICES)
    repository = current_backend().repository
    found = list_refunds(repository, invoice_id)
    with repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
    assert invoice is not None  # noqa: S101 - found above; no paid invoice is ever deleted
    return jsonify(RefundList(refunds=[refund_answer(one, invoice) for one in found]))


@blueprint.get("/refunds/<refund_id>")
def show(refund_id: str) -> Response:
    """One refund."""
    require_key(Permission.REFUND_INVOICES)
    refund, invoice = find_refund(current_backend().repository, _read_id(refund_id))
    return jsonify(refund_answer(refund, invoice))


@blueprint.post("/refunds/<refund_id>/cancel")
def cancel(refund_id: str) -> Response:
    """Withdraw a refund before it is sent; if it is already being sent, that wins."""
    require_key(Permission.REFUND_INVOICES)
    backend = current_backend()
    cancel_refund(backend.refund_issuer, _read_id(refund_id))
    backend.delivery_dispatcher.wake()
    refund, invoice = find_refund(backend.repository, _read_id(refund_id))
    return jsonify(refund_answer(refund, invoice))


def _read_id(text: str) -> int:
    """The id in a URL; 0, which no refund has, if the text is not an id."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS else 0


def refund_answer(refund: Refund, invoice: Invoice) -> RefundAnswer:
    """A refund as the API shows it."""
    return RefundAnswer(
        id=refund.id,
        invoice_id=invoice.strike_invoice_id,
        kind=refund.kind,
        state=refund.state,
        amount_sats=refund.amount_sats,
        fee_sats=refund.fee_sats,
        basis=refund.basis,
        amount_fiat=None if refund.amount_fiat is None else format(refund.amount_fiat, "f"),
        currency=invoice.order.currency,
        price=None if refund.price is None else format(refund.price, "f"),
        asked_by=refund.asked_by,
        ln_address=refund.address,
        claim_url=_claim_url(refund),
        claim_expires_at=None if refund.claim_expires_at is None else refund.claim_expires_at.isoformat(),
        created_at=refund.created_at.isoformat(),
        sent_at=None if refund.sent_at is None else refund.sent_at.isoformat(),
        canceled_at=None if refund.canceled_at is None else refund.canceled_at.isoformat(),
        cancel_cause=refund.cancel_cause,
    )


def _claim_url(refund: Refund) -> str:
    public_url = current_backend().access.public_url
    if public_url is not None:
        return public_url + url_for("refund.show", token=refund.token)
    return url_for("refund.show", token=refund.token, _external=True)
