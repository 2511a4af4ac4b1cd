"""The answers to Greenfield clients. Amounts are strings, times are whole Unix seconds."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from flask import url_for
from pydantic import Field

# Python 3.11's own cannot be read by pydantic.
from typing_extensions import TypedDict

from lnpay.deliveries.btcpay_message import payment_of
from lnpay.domain.encoding.json_text import write_json_text
from lnpay.domain.model import Invoice
from lnpay.domain.money import sats_to_btc
from lnpay.domain.states import LAPSE_MARGIN, InvoiceState
from lnpay.web.api.answers import BOLT11, INVOICE_ID
from lnpay.web.context import current_backend
from lnpay.web.customer.qr import payment_uri
from lnpay.web.greenfield.requests import PAYMENT_METHOD, Json
from lnpay.web.greenfield.status import AdditionalStatus, Status, derive_status

VERSION = "2.1.0"
"""Of BTCPay Server, whose shapes these are. Plugins compare it as a version and refuse an old one."""

STORE_ID = "4cYJ2yYV1w0eQmT7nPzLx3Kd"
"""The store id of every example."""

WEBHOOK_ID = "0123456789abcdef012345"

Seconds = Annotated[int, Field(description="Unix time.", examples=[1_767_225_600])]
StoreId = Annotated[str, Field(description="This installation.", examples=[STORE_ID])]
Nothing = Annotated[None, Field(examples=[None])]
Btc = Annotated[str, Field(description="Bitcoin.", examples=["0.00019207"])]


class Health(TypedDict):
    """LNPay is up."""

    synchronized: Annotated[bool, Field(examples=[True])]


class ServerInfo(TypedDict):
    """The API of this server."""

    version: Annotated[str, Field(description="Of BTCPay Server, whose API this follows.", examples=[VERSION])]
    onion: Annotated[str, Field(description="There is none.", examples=[""])]
    supportedPaymentMethods: Annotated[list[str], Field(examples=[[PAYMENT_METHOD]])]
    fullySynched: Annotated[bool, Field(examples=[True])]
    syncStatus: Annotated[list[str], Field(examples=[[]])]
    lnpay: Annotated[str, Field(description="Version of LNPay.", examples=["0.1.0"])]


class CurrentKey(TypedDict):
    """The key of the request, and its permissions."""

    apiKey: Annotated[str, Field(examples=["TheKeyThatTheRequestWasSentWith"])]
    label: Annotated[str, Field(examples=["WooCommerce"])]
    permissions: Annotated[
        list[str],
        Field(
            description="Each with the id of the only store.",
            examples=[[f"btcpay.store.canviewinvoices:{STORE_ID}"]],
        ),
    ]


class StoreSettings(TypedDict):
    """Settings that cannot be changed here."""

    invoiceExpiration: Annotated[
        int, Field(description="Seconds to pay, unless an invoice says otherwise.", examples=[900])
    ]
    monitoringExpiration: Annotated[
        int, Field(description="For how many seconds LNPay watches for a late payment.", examples=[900])
    ]
    speedPolicy: Annotated[str, Field(examples=["HighSpeed"])]
    paymentTolerance: Literal[0]
    anyoneCanCreateInvoice: Literal[False]
    requiresRefundEmail: Literal[False]
    lightningDescriptionTemplate: Literal[""]
    lightningAmountInSatoshi: Literal[True]
    lightningPrivateRouteHints: Literal[False]
    onChainWithLnInvoiceFallback: Literal[False]
    redirectAutomatically: Literal[False]
    lazyPaymentMethods: Literal[False]
    payJoinEnabled: Literal[False]
    showRecommendedFee: Literal[False]
    recommendedFeeBlockTarget: Literal[1]
    networkFeeMode: Annotated[str, Field(examples=["Never"])]
    defaultLang: Annotated[str, Field(examples=["en"])]
    customLogo: Literal[""]
    customCSS: Literal[""]
    htmlTitle: Literal[""]


class Store(StoreSettings):
    """The shop."""

    id: StoreId
    name: Annotated[str, Field(description="SHOP_NAME, or LNPay.", examples=["Books & Sea"])]
    website: Annotated[str, Field(examples=[""])]
    defaultCurrency: Annotated[str, Field(examples=["USD"])]
    defaultPaymentMethod: Annotated[str, Field(examples=[PAYMENT_METHOD])]
    archived: Annotated[bool, Field(examples=[False])]


class StorePaymentMethod(TypedDict):
    """A way to pay."""

    paymentMethodId: Annotated[str, Field(examples=[PAYMENT_METHOD])]
    enabled: Annotated[bool, Field(examples=[True])]


class CheckoutData(TypedDict):
    """The options of the payment page, as they were given."""

    speedPolicy: Annotated[str, Field(examples=["MediumSpeed"])]
    paymentMethods: Annotated[list[str], Field(examples=[[PAYMENT_METHOD]])]
    defaultPaymentMethod: str | None
    expirationMinutes: Annotated[float, Field(examples=[15])]
    monitoringMinutes: Annotated[float, Field(examples=[60])]
    paymentTolerance: Annotated[float, Field(examples=[0])]
    redirectURL: str | None
    redirectAutomatically: Annotated[bool, Field(examples=[False])]
    defaultLanguage: str | None
    lazyPaymentMethods: bool | None


class ReceiptData(TypedDict):
    """LNPay issues no receipts."""

    enabled: Annotated[bool, Field(examples=[True])]
    showQR: Nothing
    showPayments: Nothing


class InvoiceData(TypedDict):
    """An invoice."""

    id: Annotated[str, Field(examples=[INVOICE_ID])]
    storeId: StoreId
    amount: Annotated[str, Field(examples=["12.34"])]
    paidAmount: Annotated[str, Field(description="0 unless it was paid in time, or late and accepted.", examples=["0"])]
    currency: Annotated[str, Field(examples=["USD"])]
    type: Literal["Standard"]
    checkoutLink: Annotated[
        str, Field(description="Where the customer pays.", examples=[f"https://pay.shop.example/i/{INVOICE_ID}"])
    ]
    createdTime: Seconds
    expirationTime: Seconds
    monitoringExpiration: Seconds
    monitoringTime: Annotated[
        int, Field(description="The same address, under the name that the PHP client reads.", examples=[1_767_230_400])
    ]
    status: Annotated[
        Status,
        Field(
            description="`Settled`: paid in time. After a payment that came too late the invoice stays `Expired`.",
            examples=["New"],
        ),
    ]
    additionalStatus: Annotated[
        AdditionalStatus,
        Field(
            description="`PaidLate`, which plugins treat as paid, only if the late payment is accepted instead "
            "of refunded.",
            examples=["None"],
        ),
    ]
    availableStatusesForManualMarking: Annotated[list[str], Field(examples=[["Invalid"]])]
    archived: Annotated[bool, Field(examples=[False])]
    checkout: CheckoutData
    receipt: ReceiptData
    metadata: Annotated[dict[str, Any], Field(description="As it was given.", examples=[{"orderId": "1042"}])]


class PaymentData(TypedDict):
    """A payment that counts."""

    id: Annotated[str, Field(description="The payment hash.", examples=["a1" * 32])]
    receivedDate: Seconds
    value: Btc
    fee: Literal["0"]
    status: Literal["Settled"]
    destination: Annotated[str, Field(examples=[BOLT11])]


class PaymentMethodData(TypedDict):
    """How an invoice is paid."""

    paymentMethodId: Annotated[str, Field(examples=[PAYMENT_METHOD])]
    paymentMethod: Annotated[str, Field(description="For older clients.", examples=[PAYMENT_METHOD])]
    cryptoCode: Literal["BTC"]
    currency: Literal["BTC"]
    destination: Annotated[str, Field(description="The payment request (BOLT11).", examples=[BOLT11])]
    paymentLink: Annotated[str, Field(examples=["lightning:LNBC192070N1P54TWGQPP5DPJFZ..."])]
    rate: Annotated[str, Field(description="Price of one bitcoin in the invoice's currency.", examples=["64245.12"])]
    amount: Btc
    due: Btc
    totalPaid: Btc
    paymentMethodPaid: Btc
    paymentMethodFee: Literal["0"]
    networkFee: Annotated[Literal["0"], Field(description="For older clients.")]
    activated: Annotated[bool, Field(examples=[True])]
    additionalData: Annotated[dict[str, Any], Field(examples=[{}])]
    payments: Annotated[list[PaymentData], Field(description="Only a payment that is not refunded.", examples=[[]])]


class AuthorizedEvents(TypedDict):
    """The events that a webhook receives."""

    everything: Annotated[bool, Field(examples=[True])]
    specificEvents: Annotated[list[str], Field(description="Where `everything` is false.", examples=[[]])]


class WebhookAnswer(TypedDict):
    """A webhook."""

    id: Annotated[str, Field(examples=[WEBHOOK_ID])]
    enabled: Annotated[bool, Field(examples=[True])]
    automaticRedelivery: Annotated[bool, Field(examples=[True])]
    url: Annotated[str, Field(examples=["https://shop.example/webhook"])]
    authorizedEvents: AuthorizedEvents


class CreatedWebhook(WebhookAnswer):
    """A new webhook."""

    secret: Annotated[
        str, Field(description="Signs the messages: `BTCPay-Sig`. It is not shown again.", examples=["b7" * 24])
    ]


class Empty(TypedDict):
    """An empty answer."""


class Refusal(TypedDict):
    """An error."""

    code: Annotated[str, Field(description="A stable word, for programs.", examples=["invoice-not-found"])]
    message: Annotated[str, Field(description="A sentence, for people.", examples=["there is no such invoice"])]


class PermissionRefusal(Refusal):
    """The key lacks a right."""

    missingPermission: Annotated[str, Field(examples=["btcpay.store.canviewinvoices"])]


class FieldRefusal(TypedDict):
    """An invalid field."""

    path: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["amount must be more than zero"])]


def invoice_text(invoice: Invoice, store_id: str, now: datetime) -> str:
    """An invoice as JSON text; numbers in its metadata are written as the shop sent them."""
    fields = {**_invoice_fields(invoice, store_id, now), "metadata": invoice.order.metadata}
    return write_json_text(fields, ensure_ascii=False, separators=(",", ":"))


def invoices_text(invoices: list[Invoice], store_id: str, now: datetime) -> str:
    """A list of invoices as JSON text."""
    return f"[{','.join(invoice_text(one, store_id, now) for one in invoices)}]"


def _invoice_fields(invoice: Invoice, store_id: str, now: datetime) -> Json:
    standing = derive_status(invoice, now)
    is_open = standing.status in (Status.NEW, Status.PROCESSING) and invoice.state is InvoiceState.UNPAID
    amount = format(invoice.order.amount_fiat, "f")
    watched_until = invoice.issue.payable_until + LAPSE_MARGIN
    return {
        "id": invoice.strike_invoice_id,
        "storeId": store_id,
        "amount": amount,
        "paidAmount": amount if standing.is_paid else "0",
        "currency": invoice.order.currency.upper(),
        "type": "Standard",
        "checkoutLink": checkout_link(invoice.strike_invoice_id),
        "createdTime": _seconds(invoice.issue.opened_at),
        "expirationTime": _seconds(invoice.expires_at),
        "monitoringExpiration": _seconds(watched_until),
        "monitoringTime": _seconds(watched_until),
        "status": standing.status,
        "additionalStatus": standing.additional,
        "availableStatusesForManualMarking": [Status.INVALID] if is_open else [],
        "archived": False,
        "checkout": _checkout_of(invoice),
        "receipt": {"enabled": False, "showQR": None, "showPayments": None},
    }


def checkout_link(invoice_id: str) -> str:
    """Where the customer pays. Plugins also build this URL themselves: the address of LNPay, then /i/ and the id."""
    public_url = current_backend().access.public_url
    if public_url is not None:
        return public_url + url_for("greenfield_pages.show_invoice", invoice_id=invoice_id)
    return url_for("greenfield_pages.show_invoice", invoice_id=invoice_id, _external=True)


def _checkout_of(invoice: Invoice) -> Json:
    given = invoice.order.checkout_options or {}
    minutes = (invoice.expires_at - invoice.issue.opened_at).total_seconds() / 60
    return {
        "speedPolicy": given.get("speedPolicy", "MediumSpeed"),
        "paymentMethods": [PAYMENT_METHOD],
        "defaultPaymentMethod": given.get("defaultPaymentMethod"),
        "expirationMinutes": _plain(given.get("expirationMinutes", round(minutes, 2))),
        "monitoringMinutes": _plain(given.get("monitoringMinutes", 60)),
        "paymentTolerance": _plain(given.get("paymentTolerance", 0)),
        "redirectURL": given.get("redirectURL"),
        "redirectAutomatically": given.get("redirectAutomatically", False),
        "defaultLanguage": given.get("defaultLanguage"),
        "lazyPaymentMethods": given.get("lazyPaymentMethods"),
    }


def payment_methods_of(invoice: Invoice, now: datetime) -> list[Json]:
    """How an invoice is or was paid. Plugins book listed payments as paid, so refunded ones are not listed."""
    is_settled = derive_status(invoice, now).is_paid
    amount = sats_to_btc(invoice.amount_sats)
    return [
        {
            "paymentMethodId": PAYMENT_METHOD,
            "paymentMethod": PAYMENT_METHOD,
            "cryptoCode": "BTC",
            "currency": "BTC",
            "destination": invoice.issue.bolt11,
            "paymentLink": payment_uri(invoice.issue.bolt11) if invoice.issue.bolt11 else "",
            "rate": format(invoice.rate.price, "f"),
            "amount": amount,
            "due": "0" if is_settled else amount,
            "totalPaid": amount if is_settled else "0",
            "paymentMethodPaid": amount if is_settled else "0",
            "paymentMethodFee": "0",
            "networkFee": "0",
            "activated": True,
            "additionalData": {},
            "payments": [payment_of(invoice, now)] if is_settled else [],
        }
    ]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _plain(number: Any) -> int | float:  # noqa: ANN401 - as JSON had it
    """A number of minutes or percent for JSON; never an amount of money."""
    value = Decimal(str(number))
    return int(value) if value == value.to_integral_value() else float(value)
