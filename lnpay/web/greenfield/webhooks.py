"""Webhooks of plugins. Keys can see and change only endpoints of the btcpay form."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request

from lnpay.deliveries.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_endpoint,
    list_endpoints,
    update_endpoint,
)
from lnpay.domain.errors import InvalidRequest, NotFound
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.permissions import Permission
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.web.context import current_backend
from lnpay.web.greenfield.access import require_store
from lnpay.web.greenfield.answers import AuthorizedEvents, CreatedWebhook, WebhookAnswer
from lnpay.web.greenfield.blueprint import blueprint
from lnpay.web.greenfield.errors import FieldsRefused, UnknownHere
from lnpay.web.greenfield.requests import ChangeWebhookRequest, CreateWebhookRequest, read_model

FORM = EndpointForm.BTCPAY

PATHS = {"events": "authorizedEvents.specificEvents"}
"""Greenfield's names of endpoint fields."""


@blueprint.post("/stores/<store_id>/webhooks")
def create_webhook(store_id: str) -> Response:
    """Create a webhook, or give an existing one at this URL a new secret. Only this answer contains the secret."""
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    wanted = read_model(request.get_data(), CreateWebhookRequest)
    events, wants_everything = _events(wanted)
    try:
        made = create_endpoint(
            current_backend().outbox,
            url=wanted.url,
            form=FORM,
            by=EndpointSetter.KEY,
            secret=wanted.secret or None,
            events=events,
            wants_everything=wants_everything,
            is_enabled=wanted.enabled is not False,
            automatic_redelivery=wanted.automaticRedelivery is not False,
            replaces_same_url=True,
        )
    except InvalidRequest as error:
        raise _refused(error) from error
    return jsonify(CreatedWebhook(**_answer(made), secret=made.secret))


@blueprint.get("/stores/<store_id>/webhooks")
def list_webhooks(store_id: str) -> Response:
    """Every webhook."""
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    return jsonify([_answer(one) for one in list_endpoints(current_backend().outbox, form=FORM)])


@blueprint.get("/stores/<store_id>/webhooks/<webhook_id>")
def show_webhook(store_id: str, webhook_id: str) -> Response:
    """One webhook."""
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    return jsonify(_answer(find_webhook(webhook_id)))


@blueprint.put("/stores/<store_id>/webhooks/<webhook_id>")
def change_webhook(store_id: str, webhook_id: str) -> Response:
    """Change the given fields of a webhook. Without a secret it keeps its own."""
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    find_webhook(webhook_id)
    wanted = read_model(request.get_data() or b"{}", ChangeWebhookRequest)
    events, wants_everything = _events(wanted)
    try:
        changed = update_endpoint(
            current_backend().outbox,
            webhook_id,
            by=EndpointSetter.KEY,
            form=FORM,
            url=wanted.url,
            secret=wanted.secret or None,
            events=events,
            wants_everything=wants_everything,
            is_enabled=wanted.enabled,
            automatic_redelivery=wanted.automaticRedelivery,
        )
    except InvalidRequest as error:
        raise _refused(error) from error
    except NotFound as error:  # deleted meanwhile
        raise _unknown() from error
    return jsonify(_answer(changed))


@blueprint.delete("/stores/<store_id>/webhooks/<webhook_id>")
def delete_webhook(store_id: str, webhook_id: str) -> Response:
    """Delete a webhook and its undelivered messages."""
    require_store(store_id, Permission.MODIFY_WEBHOOKS)
    try:
        delete_endpoint(current_backend().outbox, webhook_id, form=FORM)
    except NotFound as error:
        raise _unknown() from error
    # 204 would be correct, but the plugins' client treats everything except 200 as an error.
    return jsonify({})


def _events(wanted: Any) -> tuple[list[str] | None, bool | None]:  # noqa: ANN401 - either request
    """The named events, and whether all are wanted. None if the request does not say."""
    if wanted.authorizedEvents is None:
        return None, None
    return wanted.authorizedEvents.specificEvents, wanted.authorizedEvents.everything


def _answer(endpoint: WebhookEndpoint) -> WebhookAnswer:
    return WebhookAnswer(
        id=endpoint.public_id,
        enabled=endpoint.is_enabled,
        automaticRedelivery=endpoint.automatic_redelivery,
        url=endpoint.url,
        authorizedEvents=AuthorizedEvents(everything=endpoint.wants_everything, specificEvents=sorted(endpoint.events)),
    )


def find_webhook(webhook_id: str) -> WebhookEndpoint:
    """The webhook with this id. Raises UnknownHere, also for an endpoint of another form."""
    try:
        return get_endpoint(current_backend().outbox, webhook_id, form=FORM)
    except NotFound as error:
        raise _unknown() from error


def _unknown() -> UnknownHere:
    return UnknownHere("there is no such webhook", code="webhook-not-found")


def _refused(error: InvalidRequest) -> FieldsRefused:
    return FieldsRefused({PATHS.get(field, field): why for field, why in error.errors.items()})
