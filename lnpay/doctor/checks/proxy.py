"""The proxy in front of LNPay: does it let customers through, and does it identify callers?"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    cannot_tell,
    fail,
    ok,
    warn,
)
from lnpay.doctor.http_probe import Answer, send_probe
from lnpay.doctor.target import Target
from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.webhook_signature import sign_as_strike
from lnpay.invoices.webhook_invoice import DOCTOR_EVENT
from lnpay.monitoring.exposure import is_this_machine

FORGED = "203.0.113.7"
"""An address reserved for documentation, which no caller has."""

UNKNOWN = "the-doctor-s-probe"
"""A token that does not exist: LNPay answers 404, which proves that the request arrived."""

PATHS = (
    "/lnpay.js", f"/checkout/{UNKNOWN}", f"/refund/{UNKNOWN}", f"/static/{UNKNOWN}",
    f"/invoices/{UNKNOWN}/qr.png",
)  # fmt: skip
"""One path of each kind that customers need."""

PLUGIN_PATHS = ("/api/v1/health", f"/i/{UNKNOWN}", "/modal/btcpay.js")
"""What plugins for BTCPay Server call, and where they send customers."""

MARK = "X-Request-Id"
"""LNPay echoes it in its answer; other servers do not."""

PUBLISH = "have your web server pass {paths} to LNPay, as the files in deploy/proxy do, without login or redirect"


def _check_proxy(target: Target) -> Iterator[Finding]:
    name, public = "proxy", target.settings.webhook_url.removesuffix("/webhook")
    if not public:
        yield ok(name, "WEBHOOK_URL is not set, so no public address is known")
        return
    first, *others = PATHS
    answer, is_ours = _ask(public + first)
    if answer.status is None:
        yield cannot_tell(name, f"{public}: {answer.trouble}", "see webhook_url")
        return
    hidden = [first] if not is_ours else []
    hidden += [path for path in others if not _ask(public + path)[1]]
    if hidden:
        kinds = ", ".join(path.replace(UNKNOWN, "...") for path in hidden)
        yield fail(name, f"customers cannot reach {kinds} of LNPay at {public}", PUBLISH.format(paths=kinds))
        return
    if _is_for_plugins(target):
        hidden = [path for path in PLUGIN_PATHS if not _ask(public + path)[1]]
    if hidden:
        kinds = ", ".join(path.replace(UNKNOWN, "...").replace("health", "...") for path in hidden)
        advice = f"{PUBLISH.format(paths=kinds)}; if no shop uses a plugin for BTCPay Server, set GREENFIELD=off"
        yield warn(name, f"shop plugins and their customers cannot reach {kinds} of LNPay at {public}", advice)
        return
    trouble = _caller_trouble(target)
    if trouble is None:
        yield ok(name, f"customers reach LNPay at {public}, {_through(answer)}")
    else:
        yield warn(name, f"{public}, {_through(answer)}: {trouble[0]}", trouble[1])


def _is_for_plugins(target: Target) -> bool:
    """Whether plugins may call: Greenfield is on, and there is a key, which may also be that of a shop without one."""
    if not target.settings.greenfield:
        return False
    try:
        with target.reading() as tx:
            return any(key.revoked_at is None for key in tx.api_keys.every())
    except StorageUnavailable:  # the finding `database` reports it
        return False


def _caller_trouble(target: Target) -> tuple[str, str] | None:
    """How LNPay misidentifies callers behind the proxy, and how to fix it; None if it does not."""
    settings = target.settings
    # A local address needs no proxy, and no stranger can call it.
    if not settings.webhook_secret or is_this_machine(urlsplit(settings.webhook_url).hostname or ""):
        return None
    headers = {"X-Webhook-Signature": sign_as_strike(DOCTOR_EVENT, settings.webhook_secret), "X-Forwarded-For": FORGED}
    answer = send_probe("POST", settings.webhook_url, body=DOCTOR_EVENT, headers=headers)
    seen = dict(one.partition("=")[::2] for one in answer.headers.get("x-lnpay-seen", "").split())
    if not seen:
        return None
    if seen["client"] == FORGED:
        return (
            "callers can forge their address: the proxy passes on their own X-Forwarded-For",
            "have the proxy set X-Forwarded-For to the caller's address, as the files in deploy/proxy do",
        )
    if seen["client"] != seen["peer"]:
        return None
    if seen["named"] == "yes":
        return (
            f"LNPay sees every caller as {seen['peer']}, so one caller guessing passwords slows down all of them",
            f"if that is your proxy's address, add it to TRUSTED_PROXIES (now {','.join(settings.trusted_proxies)})",
        )
    return (
        f"the proxy at {seen['peer']} does not forward client addresses, so LNPay sees every caller as the proxy",
        "configure it to set X-Forwarded-For to the caller's address, as the files in deploy/proxy do",
    )


def _ask(url: str) -> tuple[Answer, bool]:
    """The answer at an address, and whether it is LNPay's."""
    mark = uuid.uuid4().hex
    answer = send_probe("GET", url, headers={MARK: mark})
    return answer, answer.headers.get(MARK.lower()) == mark


def _through(answer: Answer) -> str:
    """The proxies in between, as far as the answer names them."""
    via = answer.headers.get("via", "").split(",")[0].split(" ")[-1]
    server = answer.headers.get("server", "").split("/")[0]
    between = [one for one in (via, server) if one and one not in ("LNPay", "waitress")]
    return f"through {' and '.join(dict.fromkeys(between))}" if between else "directly or through an unnamed proxy"


CHECKS = (Check(("proxy",), _check_proxy),)
