"""Strike's webhook: is the address reachable, the subscription right, the secret the same, and do calls arrive?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lnpay.doctor.check import Check
from lnpay.doctor.checks.server import is_server_here
from lnpay.doctor.findings import (
    Finding,
    cannot_tell,
    fail,
    ok,
    warn,
)
from lnpay.doctor.http_probe import Answer, send_probe
from lnpay.doctor.target import Target
from lnpay.domain.errors import StrikeError
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.webhook_signature import sign_as_strike
from lnpay.invoices.webhook_invoice import DOCTOR_EVENT
from lnpay.monitoring.subscriptions import (
    Json,
    Record,
    judge,
    missing_events,
    read_events,
    subscriptions_of,
)
from lnpay.strike.receive_requests import RECEIVE_COMPLETED

WITHOUT_WEBHOOKS = "only workers/main_worker.py finds payments, up to a minute later"
SUBSCRIBE = "python webhook_settings.py subscribe"
LOOK_AT_SERVER = (
    "check that LNPay runs and that your web server passes this address on to it, without login or redirect"
)


def _check_address(target: Target) -> Iterator[Finding]:
    """Check the address, then the secret."""
    url, secret = target.settings.webhook_url, target.settings.webhook_secret
    if not url:
        yield warn("webhook_url", f"WEBHOOK_URL is not set: {WITHOUT_WEBHOOKS}", "set it, then: " + SUBSCRIBE)
        yield cannot_tell("webhook_secret", "WEBHOOK_URL is not set", "set it, and WEBHOOK_SECRET")
        return
    unsigned = send_probe("POST", url, body=b"{}")
    yield _address(target, unsigned)
    if not secret:
        advice = "python key_generator.py generates one; put it into config/.env, restart, then: " + SUBSCRIBE
        message = f"WEBHOOK_SECRET is not set, so every call is refused: {WITHOUT_WEBHOOKS}"
        yield fail("webhook_secret", message, advice)
    elif unsigned.code not in ("signature_mismatch", "webhook_not_configured"):
        yield cannot_tell("webhook_secret", "LNPay does not answer at WEBHOOK_URL", "see webhook_url")
    else:
        yield _secret(
            send_probe(
                "POST", url, body=DOCTOR_EVENT, headers={"X-Webhook-Signature": sign_as_strike(DOCTOR_EVENT, secret)}
            )
        )


def _address(target: Target, answer: Answer) -> Finding:
    name, url = "webhook_url", target.settings.webhook_url
    if answer.status == 401 and answer.code == "signature_mismatch":
        return ok(name, f"{url} answers, and refuses unsigned calls")
    if answer.code == "webhook_not_configured":
        return ok(name, f"{url} answers")
    if answer.status is not None:
        return fail(name, f"{url} answers {answer.status}, so it is not LNPay's /webhook", LOOK_AT_SERVER)
    if is_server_here(target) and _do_calls_arrive(target):
        return warn(
            name,
            f"{url} cannot be reached from here ({answer.trouble}), but Strike's calls arrive",
            "nothing, if this machine cannot reach its own public address",
        )
    return fail(name, f"{url}: {answer.trouble}", LOOK_AT_SERVER)


def _do_calls_arrive(target: Target) -> bool:
    try:
        return _record(target).do_arrive is True
    except StrikeError:
        return False


def _secret(answer: Answer) -> Finding:
    name = "webhook_secret"
    if answer.status == 200:
        return ok(name, "the server accepts calls signed with WEBHOOK_SECRET")
    if answer.status in (401, 503):
        return fail(
            name,
            "the server that answers at WEBHOOK_URL refuses calls signed with the WEBHOOK_SECRET of these settings",
            "restart LNPay so that it reads the settings again, then: " + SUBSCRIBE,
        )
    return warn(name, f"the server answers {answer.status or answer.trouble} to a signed call", LOOK_AT_SERVER)


def _check_subscription(target: Target) -> Iterator[Finding]:
    name, url = "webhook_subscription", target.settings.webhook_url
    if not url:
        yield cannot_tell(name, "WEBHOOK_URL is not set", "set it, then: " + SUBSCRIBE)
        return
    ours = subscriptions_of(target.strike.list_subscriptions(), url)
    unneeded = () if target.settings.receive_with is ReceiveWith.RECEIVE_REQUEST else (RECEIVE_COMPLETED,)
    yield (
        _subscription(name, ours, unneeded)
        if ours
        else fail(name, "no subscription at Strike calls WEBHOOK_URL", SUBSCRIBE)
    )


def _subscription(name: str, ours: list[Json], unneeded: Iterable[str]) -> Finding:
    kept, *others = ours
    missing = missing_events(kept, ignoring=unneeded)
    if kept.get("enabled") is not True:
        return fail(name, "the subscription of WEBHOOK_URL is disabled", f"{SUBSCRIBE} (it enables the existing one)")
    if missing:
        return fail(name, f"the subscription lacks {', '.join(missing)}", f"{SUBSCRIBE} (it adds them)")
    if others:
        return warn(
            name,
            f"{len(ours)} subscriptions have this address, so Strike calls {len(ours)} times",
            "python webhook_settings.py list, then unsubscribe all but one",
        )
    return ok(name, "Strike calls WEBHOOK_URL for every event that is needed")


def _check_events(target: Target) -> Iterator[Finding]:
    name, record = "webhook_events", _record(target)
    text = f"of Strike's last calls {record.arrived} of {record.judged} arrived"
    if record.do_arrive is None:
        advice = "pay an invoice for a small amount, wait a minute, and run this again"
        yield cannot_tell(name, "Strike has not called about an invoice or a payment yet", advice)
    elif record.do_arrive:
        yield ok(name, text)
    else:
        # A single failure may be transient, and Strike repeats the call; two in a row are a fault.
        say = warn if record.refused_in_a_row == 1 else fail
        yield say(
            name,
            f"{text}, and the newest did not",
            f"{SUBSCRIBE} sends WEBHOOK_SECRET to Strike again; then python webhook_settings.py test shows each call. "
            "The refusals may come from another subscriber on the account",
        )


def _record(target: Target) -> Record:
    return judge(read_events(target.strike.list_events(), target.clock()))


CHECKS = (
    Check(("webhook_url", "webhook_secret"), _check_address),
    Check(("webhook_subscription",), _check_subscription),
    Check(("webhook_events",), _check_events),
)
