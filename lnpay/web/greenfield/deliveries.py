"""The messages to a plugin's webhook: list them, and send one again."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from flask import Response, jsonify
from pydantic import Field

# Python 3.11's own cannot be read by pydantic.
from typing_extensions import TypedDict

from lnpay.deliveries.redeliver import get_delivery, list_deliveries, redeliver
from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.events import BtcpayEventType
from lnpay.domain.model import Delivery, WebhookEndpoint
from lnpay.domain.permissions import Permission
from lnpay.domain.states import DeliveryState
from lnpay.web.api.answers import INVOICE_ID
from lnpay.web.context import current_backend
from lnpay.web.greenfield.access import require_store
from lnpay.web.greenfield.answers import WEBHOOK_ID, PaymentData, Seconds, StoreId
from lnpay.web.greenfield.blueprint import blueprint
from lnpay.web.greenfield.errors import UnknownHere, problem
from lnpay.web.greenfield.requests import PAYMENT_METHOD, whole_number
from lnpay.web.greenfield.webhooks import find_webhook

DEFAULT_COUNT = 100
MAX_COUNT = 250

DELIVERY_ID = "msg_0123456789abcdef0123456789abcdef"
"""The delivery of every example."""

PATH = "/stores/<store_id>/webhooks/<webhook_id>/deliveries"


class DeliveryAnswer(TypedDict):
    """A message to a webhook, and its outcome."""

    id: Annotated[str, Field(examples=[DELIVERY_ID])]
    timestamp: Seconds
    httpCode: Annotated[
        int | None, Field(description="The status that answered the last attempt; null without one.", examples=[200])
    ]
    errorMessage: Annotated[
        str | None, Field(description="Why it is not delivered; null if it is.", examples=["the shop answered 500"])
    ]
    status: Annotated[
        Literal["HttpSuccess", "HttpError", "Failed"],
        Field(
            description="`HttpSuccess`: accepted. `HttpError`: answered otherwise. `Failed`: not answered, or not sent "
            "so far; `errorMessage` says which.",
            examples=["HttpSuccess"],
        ),
    ]


class WebhookEvent(TypedDict):
    """The message to a webhook. Each type has additional fields."""

    deliveryId: Annotated[str, Field(examples=[DELIVERY_ID])]
    webhookId: Annotated[str, Field(examples=[WEBHOOK_ID])]
    originalDeliveryId: Annotated[
        str, Field(description="For a redelivery: the first delivery of this event.", examples=[DELIVERY_ID])
    ]
    isRedelivery: Annotated[bool, Field(examples=[False])]
    type: Annotated[BtcpayEventType, Field(examples=[BtcpayEventType.INVOICE_SETTLED])]
    timestamp: Annotated[int, Field(description="Unix time of the event.", examples=[1_767_225_600])]
    storeId: StoreId
    invoiceId: Annotated[str, Field(examples=[INVOICE_ID])]
    metadata: Annotated[dict[str, Any], Field(description="The invoice's.", examples=[{"orderId": "1042"}])]
    afterExpiration: NotRequired[Annotated[bool, Field(examples=[False])]]
    paymentMethodId: NotRequired[Annotated[str, Field(examples=[PAYMENT_METHOD])]]
    payment: NotRequired[PaymentData]
    overPaid: NotRequired[Literal[False]]
    manuallyMarked: NotRequired[Annotated[bool, Field(examples=[False])]]
    partiallyPaid: NotRequired[Literal[False]]


@blueprint.get(PATH)
def list_webhook_deliveries(store_id: str, webhook_id: str) -> Response:
    """The newest deliveries, newest first."""
    webhook = _webhook(store_id, webhook_id)
    count = min(whole_number("count", DEFAULT_COUNT, 10**9), MAX_COUNT)
    return jsonify([_answer(one) for one in list_deliveries(current_backend().outbox, webhook, count)])


@blueprint.get(f"{PATH}/<delivery_id>")
def show_delivery(store_id: str, webhook_id: str, delivery_id: str) -> Response:
    """One delivery."""
    return jsonify(_answer(_find(_webhook(store_id, webhook_id), delivery_id)))


@blueprint.get(f"{PATH}/<delivery_id>/request")
def show_request(store_id: str, webhook_id: str, delivery_id: str) -> Response:
    """The exact body that is sent."""
    body = _find(_webhook(store_id, webhook_id), delivery_id).body
    return Response(body, content_type="application/json")


@blueprint.post(f"{PATH}/<delivery_id>/redeliver")
def redeliver_delivery(store_id: str, webhook_id: str, delivery_id: str) -> Response:
    """Send a delivery again, soon. Answers the id of the new delivery."""
    webhook = _webhook(store_id, webhook_id)
    backend = current_backend()
    try:
        new_id = redeliver(backend.outbox, webhook, delivery_id)
    except NotFound as error:
        raise _unknown() from error
    except Conflict as error:
        return problem(409, "webhookdelivery-withdrawn", error.message)
    backend.delivery_dispatcher.wake()
    return jsonify(new_id)


def _webhook(store_id: str, webhook_id: str) -> WebhookEndpoint:
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    return find_webhook(webhook_id)


def _find(webhook: WebhookEndpoint, delivery_id: str) -> Delivery:
    try:
        return get_delivery(current_backend().outbox, webhook, delivery_id)
    except NotFound as error:
        raise _unknown() from error


def _unknown() -> UnknownHere:
    return UnknownHere("there is no such delivery", code="webhookdelivery-not-found")


def _answer(delivery: Delivery) -> DeliveryAnswer:
    is_delivered = delivery.state is DeliveryState.DELIVERED
    failed: Literal["HttpError", "Failed"] = "Failed" if delivery.last_status is None else "HttpError"
    return DeliveryAnswer(
        id=delivery.webhook_id,
        timestamp=int(delivery.created_at.timestamp()),
        httpCode=delivery.last_status,
        errorMessage=None if is_delivered else delivery.last_error or _why_untold(delivery),
        status="HttpSuccess" if is_delivered else failed,
    )


def _why_untold(delivery: Delivery) -> str:
    if delivery.state is DeliveryState.WITHDRAWN:
        return "it was not sent: it was no longer true"
    return "it has not been sent yet"
