"""The shapes of what LNPay sends: answers to the shop, and deliveries to it.

Routes build plain dicts of these types; `GET /openapi.json` shows them. Fields may be added, never removed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, WithJsonSchema

# Python 3.11's own cannot be read by pydantic.
from typing_extensions import TypedDict

from lnpay.domain.events import EventType
from lnpay.domain.permissions import Permission
from lnpay.domain.states import DeliveryState, EndpointForm, InvoiceState, RefundKind, RefundState

BOLT11 = (
    "lnbc192070n1p54twgqpp5dpjfz692qqanepm27a9080u9w2szwpg76np8egz8z2asexveq9lqsp5gshr6smjqnjjmv3zrfvqpzs95mzxgu2ecv"
    "jvnpvmsy88vmkf62rqdqj23mk7grrdanxvet9wvxqrrsscqpj9qyysgqnl60ekyqt7xxzxrymkd7nzqqk3jyex8y0d4lm9y5ksgtgzxqdutn7n4s"
    "y0nkamwupr4x2wx2ry3a72ttxadak8dv4vazjlx0ka490hgqlg0let"
)
"""The payment request of every example."""

INVOICE_ID = "0f2b7c1e-93d4-4c58-8a6f-5d1e0b9a7c24"

_AMOUNT = {
    "type": "object",
    "required": ["amount", "currency"],
    "properties": {"amount": {"type": "string"}, "currency": {"type": "string"}},
    "examples": [{"amount": "0.00019207", "currency": "BTC"}],
}

_STRIKE_INVOICE = {
    "type": "object",
    "description": "Strike's invoice object, as Strike gave it.",
    "required": ["invoiceId", "state", "created", "amount"],
    "properties": {
        "invoiceId": {
            "type": "string",
            "description": "Identifies this invoice in every other call.",
            "examples": [INVOICE_ID],
        },
        "state": {"type": "string", "examples": ["UNPAID"]},
        "created": {"type": "string", "format": "date-time", "examples": ["2026-01-01T00:00:00.000+00:00"]},
        "correlationId": {"type": ["string", "null"], "examples": ["order-1042"]},
        "description": {"type": ["string", "null"], "examples": ["Two coffees"]},
        "amount": _AMOUNT,
    },
}

_STRIKE_QUOTE = {
    "type": "object",
    "description": "Strike's quote object, as Strike gave it.",
    "required": ["lnInvoice", "expiration"],
    "properties": {
        "lnInvoice": {"type": "string", "description": "The payment request (BOLT11).", "examples": [BOLT11]},
        "sourceAmount": {**_AMOUNT, "description": "What the customer pays, in bitcoin."},
        "expiration": {
            "type": "string",
            "format": "date-time",
            "description": "When Strike's quote ends; `expiration_time` is what counts.",
            "examples": ["2026-01-01T01:00:00.000+00:00"],
        },
    },
}

StrikeInvoiceObject = Annotated[dict[str, Any], WithJsonSchema(_STRIKE_INVOICE)]
StrikeQuoteObject = Annotated[dict[str, Any], WithJsonSchema(_STRIKE_QUOTE)]

InvoiceId = Annotated[str, Field(description="Strike's `invoiceId`.", examples=[INVOICE_ID])]
CorrelationId = Annotated[str, Field(description="Your id for this invoice.", examples=["order-1042"])]
OrderId = Annotated[
    str,
    Field(
        description="Your order, which may have several attempts; the correlation_id if you gave none.",
        examples=["1042"],
    ),
]
AmountFiat = Annotated[str, Field(description="In `currency`.", examples=["12.34"])]
Currency = Annotated[str, Field(description="Lower-case code of the invoice's currency.", examples=["usd"])]
AmountSats = Annotated[int, Field(description="What was asked of the customer.", examples=[19_207], gt=0)]
Metadata = Annotated[
    Any,
    Field(
        description="The metadata of your request, as text; for an invoice of the Greenfield API, its JSON unchanged.",
        examples=[{"cart": "17"}],
    ),
]

Moment = Annotated[
    str, WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-01T00:02:00+00:00"]})
]
"""ISO 8601, with an offset."""


class OpenInvoice(TypedDict):
    """An invoice that the customer can pay."""

    invoice: StrikeInvoiceObject
    quote: StrikeQuoteObject
    qr_code: Annotated[
        str,
        Field(
            description="PNG of the QR code, in base64.",
            json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
            examples=["iVBORw0KGgoAAAANSUhEUgAAAegAAA..."],
        ),
    ]
    expiration_time: Annotated[Moment, Field(description="A payment made later is refunded.")]
    payment_uri: Annotated[
        str,
        Field(
            description="Opens a wallet on the customer's phone.", examples=["lightning:LNBC192070N1P54TWGQPP5DPJFZ..."]
        ),
    ]
    checkout_url: Annotated[
        str,
        Field(
            description="The customer's payment page.",
            examples=["https://pay.shop.example/checkout/tJFDFF-ynntxIgBUDYHQfwn3d2QpYugk"],
        ),
    ]
    warnings: NotRequired[
        Annotated[
            list[str],
            Field(
                description="Problems that did not prevent the sale; empty if there are none.",
                examples=[["ln_address is neither a Lightning address (name@host) nor an LNURL"]],
            ),
        ]
    ]


class InvoiceMade(TypedDict):
    """Answer of POST /generate-invoice."""

    status: Literal["success"]
    data: OpenInvoice


class DeliveryStanding(TypedDict):
    """The status of the notification to your shop."""

    state: Annotated[DeliveryState, Field(examples=["delivered"])]
    attempts: Annotated[int, Field(ge=0, examples=[1])]


class RefundStanding(TypedDict):
    """The refund of a late payment."""

    state: Annotated[RefundState, Field(examples=["sent"])]


class Credited(TypedDict):
    """What Strike credited your account for an invoice."""

    amount: Annotated[str, Field(examples=["12.31"])]
    currency: Annotated[str, Field(description="SETTLE_IN, when the invoice was created.", examples=["USD"])]
    rate: Annotated[str | None, Field(description="Of one bitcoin, as Strike gave it.", examples=["64092.8300"])]


class InvoiceStanding(TypedDict):
    """The status of an invoice."""

    invoice_id: InvoiceId
    correlation_id: CorrelationId
    order_id: OrderId
    state: Annotated[
        InvoiceState,
        Field(
            description="unpaid; settled (paid in time, or late and accepted); expired (not paid in time; a payment "
            "may still arrive); paid_late (paid after the deadline: see refund); lapsed (the payment request has "
            "ended; a payment that Strike still reports counts); cancelled (at Strike; a payment still counts).",
            examples=["settled"],
        ),
    ]
    amount_fiat: AmountFiat
    currency: Currency
    amount_sats: AmountSats
    expiration_time: Moment
    settled_at: Moment | None
    accepted_late: Annotated[
        bool, Field(description="It was paid after the deadline, and the payment is kept.", examples=[False])
    ]
    received_sats: NotRequired[
        Annotated[
            int,
            Field(
                description="Everything received so far, late payments too; only for receive requests.",
                examples=[19_207],
                ge=0,
            ),
        ]
    ]
    credited: NotRequired[
        Annotated[Credited | None, Field(description="null: not known yet. Only for receive requests.")]
    ]
    delivery: Annotated[DeliveryStanding | None, Field(description="null: no notification so far.")]
    refund: Annotated[RefundStanding | None, Field(description="null: nothing is owed back.")]
    metadata: Metadata


class OrderAttempts(TypedDict):
    """The attempts at one order."""

    order_id: OrderId
    invoices: Annotated[list[InvoiceStanding], Field(description="The newest first, at most 100.", examples=[[]])]


class Home(TypedDict):
    """About this server."""

    status: Literal["success"]
    service: Literal["LNPay"]
    shop: Annotated[str | None, Field(description="SHOP_NAME, if it is set.", examples=["Books & Sea"])]
    docs: Annotated[str, Field(description="Where the API is described.", examples=["/docs"])]


class InvoicePage(TypedDict):
    """A page of the list of invoices."""

    invoices: Annotated[list[InvoiceStanding], Field(description="The newest first.", examples=[[]])]
    next_cursor: Annotated[
        str | None,
        Field(description="Send it as `cursor` for the next page; null: there is none.", examples=[None]),
    ]


class EventTaken(TypedDict):
    """Answer of POST /webhook."""

    status: Literal["success"]
    outcome: Annotated[str, Field(description="The outcome, for Strike's log of calls.", examples=["settled"])]


class Alive(TypedDict):
    """The process, or the database, is available."""

    status: Literal["ok"]


class Problem(TypedDict):
    """The body of every error."""

    status: Literal["error"]
    code: Annotated[str, Field(description="A stable word, for programs.", examples=["invalid_request"])]
    message: Annotated[str, Field(description="A sentence, for people.", examples=["amount_fiat is missing"])]
    errors: Annotated[
        dict[str, str],
        Field(description="What is wrong with which field.", examples=[{"amount_fiat": "is missing"}]),
    ]


class PermissionProblem(Problem):
    """A 403: the key is valid, but lacks a permission."""

    permission: Annotated[Permission, Field(description="The missing permission.", examples=[Permission.VIEW_INVOICES])]


class OrderProblem(Problem):
    """A 409 because of an existing invoice, with its state and its ids."""

    state: NotRequired[
        Annotated[
            InvoiceState | None,
            Field(
                description="The state of that invoice; null if only Strike has a record of it.", examples=["settled"]
            ),
        ]
    ]
    invoice_id: NotRequired[InvoiceId]
    correlation_id: NotRequired[CorrelationId]
    checkout_url: NotRequired[
        Annotated[
            str | None,
            Field(
                description="Its payment page, which shows its status.",
                examples=["https://pay.shop.example/checkout/tJFDFF-ynntxIgBUDYHQfwn3d2QpYugk"],
            ),
        ]
    ]


class RefundData(TypedDict):
    """Which refund a message is about."""

    id: Annotated[int, Field(description="As in GET /refunds/<id>.", examples=[17])]
    kind: Annotated[RefundKind, Field(examples=["merchant"])]
    amount_sats: AmountSats


class DeliveryData(TypedDict):
    """What the message is about."""

    invoice_id: InvoiceId
    correlation_id: CorrelationId
    order_id: OrderId
    amount_fiat: AmountFiat
    currency: Currency
    amount_sats: AmountSats
    settled_at: Annotated[Moment | None, Field(description="null but for invoice.settled.")]
    metadata: Metadata
    accepted_late: NotRequired[
        Annotated[bool, Field(description="true: paid after the deadline, and the payment is kept.", examples=[True])]
    ]
    refund: NotRequired[RefundData]
    held: NotRequired[
        Annotated[
            bool,
            Field(description="true: the late payment waits for the operator's decision.", examples=[True]),
        ]
    ]


class Delivery(TypedDict):
    """The notifications that you receive at DELIVERY_URL."""

    status: Annotated[str, Field(description='"success" for invoice.settled and nothing else.', examples=["success"])]
    message: Annotated[str, Field(examples=["Payment processed successfully!"])]
    invoice: Annotated[str, Field(description="The payment request (BOLT11).", examples=[BOLT11])]
    type: Annotated[EventType, Field(examples=["invoice.settled"])]
    timestamp: Annotated[Moment, Field(description="When it happened.")]
    data: DeliveryData


ENDPOINT_ID = "9f2c4e7a1b3d5f60728a9c"

EndpointId = Annotated[str, Field(description="Identifies the endpoint in other calls.", examples=[ENDPOINT_ID])]


class LastAnswer(TypedDict):
    """An endpoint's last answer."""

    at: Moment
    status: Annotated[int | None, Field(description="HTTP status; null if there was no answer.", examples=[200])]
    error: Annotated[
        str | None, Field(description="Why the message was not accepted; null if it was.", examples=[None])
    ]


class EndpointAnswer(TypedDict):
    """An address that is notified."""

    id: EndpointId
    url: Annotated[str, Field(examples=["https://shop.example/lnpay"])]
    form: Annotated[EndpointForm, Field(description="standard: LNPay's own messages; btcpay: those of a plugin.")]
    events: Annotated[
        list[str] | None, Field(description="Types of messages; null: every one.", examples=[["invoice.settled"]])
    ]
    enabled: Annotated[bool, Field(examples=[True])]
    created_at: Moment
    last_answer: LastAnswer | None


class CreatedEndpoint(EndpointAnswer):
    """A new endpoint."""

    secret: Annotated[
        str,
        Field(
            description="Signs its messages (Standard Webhooks). It is shown only now.",
            examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
        ),
    ]


class EndpointList(TypedDict):
    """Every endpoint."""

    webhook_endpoints: Annotated[list[EndpointAnswer], Field(description="The oldest first.", examples=[[]])]


class EndpointDeleted(TypedDict):
    """An endpoint was deleted."""

    id: EndpointId
    deleted: Literal[True]


class MessageDue(TypedDict):
    """A message that is sent again."""

    id: Annotated[str, Field(description="Its webhook-id.", examples=["msg_2bXaWzSx7GkM0QJvVbQ1"])]
    type: Annotated[str, Field(examples=["invoice.settled"])]


class MessagesDue(TypedDict):
    """The messages about an invoice that are sent again."""

    messages: Annotated[
        list[MessageDue], Field(examples=[[{"id": "msg_2bXaWzSx7GkM0QJvVbQ1", "type": "invoice.settled"}]])
    ]
