"""Connecting shops: list, create and revoke API keys, and authorize a plugin that asks for one.

A key appears only in the answer to the request that creates it, never in a cookie, a URL or the log.
"""

from __future__ import annotations

import logging

from flask import Response, g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.access.api_keys import MAX_LABEL_CHARACTERS, CreatedKey, create_key, list_keys, revoke_key, store_id
from lnpay.deliveries.endpoints import list_endpoints
from lnpay.domain.errors import InvalidRequest, NotFound
from lnpay.domain.model import ApiKey
from lnpay.domain.permissions import WORDS, KeyPurpose
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.admin.login import say
from lnpay.web.authentication import is_key_needed
from lnpay.web.connect.request import FIELDS, ConnectRequest, read_connect_request
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import beside

log = logging.getLogger(__name__)

PURPOSES = {
    KeyPurpose.WOOCOMMERCE: "WooCommerce",
    KeyPurpose.PRESTASHOP: "PrestaShop",
    KeyPurpose.MAGENTO: "Magento",
    KeyPurpose.CUSTOM: "Another plugin or shop",
}


@blueprint.get("/connections")
def show_connections() -> Response:
    """Every key, and the form that creates one."""
    return _connections_page()


def _connections_page(mistake: str = "", status: int = 200) -> Response:
    backend = current_backend()
    page = render_template(
        "admin/connections.html",
        keys=list_keys(backend.repository),
        endpoints=list_endpoints(backend.outbox),
        address=_address(),
        store_id=store_id(backend.repository),
        purposes=PURPOSES,
        words=WORDS,
        is_key_needed=is_key_needed(),
        has_plugins=backend.access.is_greenfield_on,
        has_setting=bool(backend.access.api_keys),
        most=MAX_LABEL_CHARACTERS,
        mistake=mistake,
        given=request.form,
    )
    return make_response(page, status)


@blueprint.post("/connections")
def submit_connection() -> Response:
    """Create a key and show it, once."""
    backend = current_backend()
    made_for = request.form.get("made_for", "")
    try:
        if made_for not in list(KeyPurpose):
            raise InvalidRequest("choose what the key is for")
        created = create_key(backend.repository, KeyPurpose(made_for), request.form.get("label", ""), backend.clock())
    except InvalidRequest as error:
        return _connections_page(error.message, 400)
    log.info("api key created id=%d made_for=%s", created.key.id, made_for)
    return _created_page(created)


def _created_page(created: CreatedKey) -> Response:
    page = render_template("admin/created_key.html", created=created, address=_address(), words=WORDS)
    return make_response(page)


@blueprint.post("/connections/<int:key_id>/revoke")
def submit_revocation(key_id: int) -> AnyResponse:
    """Revoke a key. A second press changes nothing."""
    backend = current_backend()
    try:
        key = revoke_key(backend.repository, key_id, backend.clock())
    except NotFound as error:
        say(f"Nothing was done: {error.message}.", is_good=False)
    else:
        log.info("api key revoked id=%d", key.id)
        say(f"Revoked: {key.label} is refused from now on.")
    return redirect(beside("admin.show_connections"), 303)


@blueprint.get("/connect")
def show_connect() -> Response:
    """Ask the operator whether a shop's plugin may have the key that it asks for."""
    try:
        asked = read_connect_request(request.args, store_id(current_backend().repository))
    except InvalidRequest as error:
        return _refused_page(error)
    fields = [(name, value) for name, value in request.args.items(multi=True) if name in FIELDS]
    earlier = _keys_of_the_same_shop(asked)
    page = render_template(
        "admin/connect.html", asked=asked, words=WORDS, purposes=PURPOSES, fields=fields, earlier=earlier
    )
    return make_response(page)


def _keys_of_the_same_shop(asked: ConnectRequest) -> list[ApiKey]:
    """The active keys that the same plugin at the same host already has; the operator may want to revoke them."""
    if asked.host is None:
        return []
    known = list_keys(current_backend().repository)
    return [
        one for one in known if one.revoked_at is None and (one.redirect_host, one.label) == (asked.host, asked.label)
    ]


@blueprint.post("/connect")
def submit_connect() -> Response:
    """Create the key that the operator has authorized, and have the browser hand it over to the shop."""
    backend = current_backend()
    try:
        asked = read_connect_request(request.form, store_id(backend.repository))
    except InvalidRequest as error:
        return _refused_page(error)
    made_for = asked.made_for
    created = create_key(
        backend.repository,
        made_for,
        asked.label,
        backend.clock(),
        permissions=asked.permissions if made_for is KeyPurpose.CUSTOM else None,
        application=asked.application,
    )
    log.info("api key authorized id=%d made_for=%s host=%s", created.key.id, made_for, asked.host or "-")
    if asked.redirect is None:
        return _created_page(created)
    return _handover_page(created, asked)


def _handover_page(created: CreatedKey, asked: ConnectRequest) -> Response:
    """A form for the shop, which submits itself; without JavaScript it has a button."""
    # See `protect`: only this page may send a form to another host, and only to this one.
    g.form_target = asked.origin
    scoped = [f"{one}:{created.store_id}" for one in created.key.permissions]
    page = render_template("admin/handover.html", created=created, asked=asked, scoped=scoped)
    return make_response(page)


def _refused_page(error: InvalidRequest) -> Response:
    page = render_template(
        "admin/error.html",
        title="This shop cannot be connected",
        advice=f"Its request was refused: {error.message}. No key was created. "
        "You can create one under Connections and enter it in the plugin.",
    )
    return make_response(page, 400)


def _address() -> str:
    """Where shops reach LNPay."""
    return current_backend().access.public_url or request.url_root.rstrip("/")
