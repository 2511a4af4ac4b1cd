"""Use case: webhook endpoints, the shop's URLs that are notified in addition to the delivery hook.

An operator sets them by command; a shop sets them with an API key. What a key has set never leads into a private
network, unless WEBHOOK_ALLOW_PRIVATE is on: it is checked here, and again at each connection.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from lnpay.deliveries.btcpay_message import btcpay_test_body
from lnpay.deliveries.call_endpoint import EndpointAnswer, call_endpoint
from lnpay.deliveries.send import Outbox
from lnpay.domain.errors import Conflict, InvalidRequest, NotFound
from lnpay.domain.events import BtcpayEventType, EventType, body_of_test, new_webhook_id
from lnpay.domain.model import EndpointSettings, WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.domain.webhook_signature import DELIVERY_SECRET_PREFIX, decode_delivery_secret
from lnpay.http.public_address import is_host_private

MOST_ENDPOINTS = 50
"""Each endpoint costs a row per event."""

MAX_URL_CHARACTERS = 2_000
MAX_SECRET_CHARACTERS = 200
MAX_EVENTS = 100

_EVENT_NAME = re.compile(r"[A-Za-z._]{1,60}", re.ASCII)


def create_endpoint(
    outbox: Outbox,
    *,
    url: str,
    form: EndpointForm,
    by: EndpointSetter,
    secret: str | None = None,
    events: Collection[str] | None = None,
    wants_everything: bool | None = None,
    is_enabled: bool = True,
    automatic_redelivery: bool = True,
    replaces_same_url: bool = False,
) -> WebhookEndpoint:
    """Add an endpoint. It is notified of events from now on.

    secret: None creates one. events: None for every event. wants_everything: every event, regardless of `events`.
    replaces_same_url: an endpoint of this form that a key has set at this very address is changed instead. A shop that
    connects again has only the new secret, so it would refuse everything that is signed with the old one.
    Raises InvalidRequest, which names the fields `url`, `secret` and `events`; Conflict when there are too many.
    """
    settings = EndpointSettings(
        url=_checked_url(outbox, url, by),
        form=form,
        secret=_new_secret(form) if secret is None else _checked_secret(secret, form),
        events=_checked_events(events or (), form),
        wants_everything=events is None if wants_everything is None else wants_everything,
        is_enabled=is_enabled,
        automatic_redelivery=automatic_redelivery,
    )
    public_id = secrets.token_hex(11)
    with outbox.repository.transaction() as tx:
        every = tx.webhook_endpoints.every()
        known = next((one for one in every if _is_same(one, settings)), None) if replaces_same_url else None
        if known is not None:
            public_id = known.public_id
            tx.webhook_endpoints.update(known.id, settings, by)
        elif len(every) >= MOST_ENDPOINTS:
            raise Conflict(f"there are {MOST_ENDPOINTS} webhook endpoints: delete one first", code="too_many_endpoints")
        else:
            tx.webhook_endpoints.add(public_id, settings, by, outbox.clock())
    return get_endpoint(outbox, public_id)


def _is_same(known: WebhookEndpoint, wanted: EndpointSettings) -> bool:
    return known.set_by is EndpointSetter.KEY and (known.url, known.form) == (wanted.url, wanted.form)


def list_endpoints(outbox: Outbox, *, form: EndpointForm | None = None) -> list[WebhookEndpoint]:
    """Every endpoint, or those of one form, the oldest first."""
    with outbox.repository.reading() as tx:
        return [one for one in tx.webhook_endpoints.every() if form in (None, one.form)]


def get_endpoint(outbox: Outbox, public_id: str, *, form: EndpointForm | None = None) -> WebhookEndpoint:
    """One endpoint. form: only if it has that form. Raises NotFound."""
    with outbox.repository.reading() as tx:
        found = tx.webhook_endpoints.find_by_public_id(public_id)
    if found is None or form not in (None, found.form):
        raise NotFound("there is no webhook endpoint with this id", code="webhook_endpoint_not_found")
    return found


def update_endpoint(
    outbox: Outbox,
    public_id: str,
    *,
    by: EndpointSetter,
    form: EndpointForm | None = None,
    url: str | None = None,
    secret: str | None = None,
    events: Collection[str] | None = None,
    wants_everything: bool | None = None,
    is_enabled: bool | None = None,
    automatic_redelivery: bool | None = None,
) -> WebhookEndpoint:
    """Change what is given; None leaves it as it is. Messages already owed to it are sent under the new settings.

    form: only an endpoint of that form; the form itself never changes. While it is disabled, nothing new is owed to it
    and what waits is not sent. Raises as `create_endpoint` and `get_endpoint` do.
    """
    known = get_endpoint(outbox, public_id, form=form)
    is_moved = url is not None and url != known.url
    settings = EndpointSettings(
        url=_checked_url(outbox, url, by) if url is not None and is_moved else known.url,
        form=known.form,
        secret=known.secret if secret is None else _checked_secret(secret, known.form),
        events=known.events if events is None else _checked_events(events, known.form),
        wants_everything=_default(wants_everything, known.wants_everything and events is None),
        is_enabled=_default(is_enabled, known.is_enabled),
        automatic_redelivery=_default(automatic_redelivery, known.automatic_redelivery),
    )
    with outbox.repository.transaction() as tx:
        tx.webhook_endpoints.update(known.id, settings, by if is_moved else known.set_by)
    return get_endpoint(outbox, public_id)


def delete_endpoint(outbox: Outbox, public_id: str, *, form: EndpointForm | None = None) -> None:
    """Delete an endpoint and withdraw its undelivered messages. Raises as `get_endpoint` does."""
    known = get_endpoint(outbox, public_id, form=form)
    with outbox.repository.transaction() as tx:
        if tx.webhook_endpoints.delete(known.id, outbox.clock()):
            tx.deliveries.withdraw_of_endpoint(known.id)


def send_test(outbox: Outbox, public_id: str, *, form: EndpointForm | None = None) -> EndpointAnswer:
    """Send a test message now, once, also to a disabled endpoint. Raises as `get_endpoint` does."""
    known = get_endpoint(outbox, public_id, form=form)
    webhook_id, now = new_webhook_id(), outbox.clock()
    if known.form is EndpointForm.STANDARD:
        body = body_of_test(now)
    else:
        with outbox.repository.transaction() as tx:
            body = btcpay_test_body(now, webhook_id, known.public_id, tx.installation.make_store_id())
    signed_at = (outbox.signing_clock or outbox.clock)()
    answer = call_endpoint(outbox.post, known, webhook_id, body, signed_at, allow_private=outbox.allow_private)
    with outbox.repository.transaction() as tx:
        tx.webhook_endpoints.note_answer(known.id, outbox.clock(), answer.status, answer.error)
    return answer


def _default(chosen: bool | None, otherwise: bool) -> bool:
    return otherwise if chosen is None else chosen


def _new_secret(form: EndpointForm) -> str:
    if form is EndpointForm.BTCPAY:
        return secrets.token_hex(24)
    return DELIVERY_SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _checked_secret(secret: str, form: EndpointForm) -> str:
    if form is EndpointForm.STANDARD:
        try:
            decode_delivery_secret(secret)
        except ValueError as error:
            raise _invalid("secret", str(error)) from None
    elif not secret or len(secret) > MAX_SECRET_CHARACTERS or not secret.isprintable():
        raise _invalid("secret", f"must have 1 to {MAX_SECRET_CHARACTERS} printable characters")
    return secret


def _checked_events(events: Collection[str], form: EndpointForm) -> frozenset[str]:
    if len(events) > MAX_EVENTS:
        raise _invalid("events", f"must name at most {MAX_EVENTS} events")
    for name in events:
        if form is EndpointForm.STANDARD and name not in list(EventType):
            raise _invalid("events", f"must be among {', '.join(EventType)}")
        if form is EndpointForm.BTCPAY and name in list(EventType):
            raise _invalid("events", f"of the form btcpay must be among {', '.join(BtcpayEventType)}")
        # Plugins of a newer BTCPay Server may request events that LNPay never sends.
        if not _EVENT_NAME.fullmatch(name):
            raise _invalid("events", "must be names of events")
    return frozenset(events)


def _checked_url(outbox: Outbox, url: str, by: EndpointSetter) -> str:
    host = _host_of(url)
    if by is EndpointSetter.KEY and not outbox.allow_private and is_host_private(host):
        raise _invalid(
            "url",
            "must not lead into a private network: ask the operator of LNPay to add the endpoint, or to set "
            "WEBHOOK_ALLOW_PRIVATE=on",
        )
    return url


def _host_of(url: str) -> str:
    """The host of a valid URL. Raises InvalidRequest."""
    if len(url) > MAX_URL_CHARACTERS:
        raise _invalid("url", f"must have at most {MAX_URL_CHARACTERS:,} characters")
    # Programs disagree about spaces and backslashes.
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise _invalid("url", "has a space, a backslash or another character that no URL has")
    if not url.lower().startswith(("https://", "http://")):
        raise _invalid("url", "must be an absolute address that starts with https:// or http://")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise _invalid("url", "has no valid host or port")
    if "@" in parts.netloc:
        raise _invalid("url", "must have no user name and no password")
    return parts.hostname or ""


def _invalid(field: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {why}", errors={field: why})
