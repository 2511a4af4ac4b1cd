"""The shop's webhook endpoints, and sending an invoice's messages again."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from lnpay.deliveries.endpoints import create_endpoint, delete_endpoint, list_endpoints
from lnpay.deliveries.send import send_again
from lnpay.domain.events import EventType
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.permissions import Permission
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.web.api.answers import (
    CreatedEndpoint,
    EndpointAnswer,
    EndpointDeleted,
    EndpointList,
    LastAnswer,
    MessagesDue,
)
from lnpay.web.api.bodies import read_json
from lnpay.web.authentication import require, require_key
from lnpay.web.context import current_backend

blueprint = Blueprint("endpoints", __name__)


class CreateEndpoint(BaseModel):
    """An address to notify."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[
        str,
        Field(
            description="Absolute http or https address, not in a private network.",
            examples=["https://shop.example/lnpay"],
        ),
    ]
    events: Annotated[
        list[Annotated[str, WithJsonSchema({"type": "string", "enum": [str(one) for one in EventType]})]] | None,
        Field(
            min_length=1,
            description="Types of messages that it receives; all if omitted.",
            examples=[["invoice.settled"]],
        ),
    ] = None
    secret: Annotated[
        str | None,
        Field(
            description="`whsec_` and base64 of 24 to 64 bytes; generated if omitted.",
            json_schema_extra={"pattern": r"^whsec_[A-Za-z0-9+/]+={0,2}$"},
            examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="],
        ),
    ] = None


@blueprint.get("/webhook-endpoints")
def show_endpoints() -> Response:
    """Every endpoint, including those of plugins."""
    _require_webhook_key()
    found = list_endpoints(current_backend().outbox)
    return jsonify(EndpointList(webhook_endpoints=[_answer(one) for one in found]))


@blueprint.post("/webhook-endpoints")
def create() -> Response:
    """Add an endpoint that is sent LNPay's own messages. Only this answer has its secret."""
    _require_webhook_key()
    wanted = read_json(request, CreateEndpoint)
    made = create_endpoint(
        current_backend().outbox,
        url=wanted.url,
        form=EndpointForm.STANDARD,
        by=EndpointSetter.KEY,
        secret=wanted.secret,
        events=wanted.events,
    )
    return jsonify(CreatedEndpoint(**_answer(made), secret=made.secret))


@blueprint.delete("/webhook-endpoints/<endpoint_id>")
def delete(endpoint_id: str) -> Response:
    """Delete an endpoint and withdraw its undelivered messages."""
    _require_webhook_key()
    delete_endpoint(current_backend().outbox, endpoint_id)
    return jsonify(EndpointDeleted(id=endpoint_id, deleted=True))


@blueprint.post("/invoices/<invoice_id>/redeliver")
def redeliver(invoice_id: str) -> Response:
    """Send every message about an invoice again, with its webhook-id."""
    require(Permission.MODIFY_INVOICES)
    backend = current_backend()
    again = send_again(backend.repository, invoice_id, backend.clock())
    backend.delivery_dispatcher.wake()
    return jsonify(MessagesDue(messages=[{"id": one.webhook_id, "type": one.event_type} for one in again]))


def _require_webhook_key() -> None:
    # A key is required even if none was ever created: strangers must not receive a shop's orders.
    require_key(Permission.MODIFY_WEBHOOKS)


def _answer(endpoint: WebhookEndpoint) -> EndpointAnswer:
    last: LastAnswer | None = None
    if endpoint.last_answer_at is not None:
        last = {
            "at": endpoint.last_answer_at.isoformat(),
            "status": endpoint.last_status,
            "error": endpoint.last_error,
        }
    return EndpointAnswer(
        id=endpoint.public_id,
        url=endpoint.url,
        form=endpoint.form,
        events=None if endpoint.wants_everything else sorted(endpoint.events),
        enabled=endpoint.is_enabled,
        created_at=endpoint.created_at.isoformat(),
        last_answer=last,
    )
