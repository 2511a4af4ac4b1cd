"""The shop: does its address answer, and does it accept notifications?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lnpay.deliveries.hook import hook_in_use, is_own_a_default, is_shipped_changed, load_deliver
from lnpay.deliveries.shop_answer import ANSWER_SECONDS, require_accepted
from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    cannot_tell,
    fail,
    ok,
    warn,
)
from lnpay.doctor.formatting import in_words
from lnpay.doctor.http_probe import Answer, origin_of, send_probe
from lnpay.doctor.target import Target
from lnpay.domain.errors import HookUnusable, LnpayError, ShopRefused
from lnpay.repository.queries.figures import Waiting

LATE = timedelta(minutes=5)
VERY_LATE = timedelta(hours=1)
"""By then four attempts have failed, and a customer who has paid has received nothing."""

RECENT = timedelta(hours=1)

REMEMBERED = timedelta(days=30)
"""Messages abandoned longer ago are not reported."""

PROBE_TIMEOUT = (3.0, 6.0)
"""Longer than other probes, because a delivery waits longer, yet within the deadline of all checks."""

FIX = "check that the shop runs and that DELIVERY_URL in config/.env is its exact address; redirects are not followed"
"""What to do about an address that does not accept messages."""

_OPTIONS_UNSUPPORTED = (405, 501)
"""Statuses with which servers reject OPTIONS although they accept other methods."""


def _check_address(target: Target) -> Iterator[Finding]:
    """Probe DELIVERY_URL with OPTIONS, which carries no order, and judge the answer as a delivery would."""
    if not target.settings.delivery_events:
        yield ok("delivery_url", "not used: DELIVERY_EVENTS is none")
        return
    origin = origin_of(target.settings.delivery_url)
    answer = send_probe("OPTIONS", target.settings.delivery_url, timeout=PROBE_TIMEOUT)
    shop = f"the shop at {origin}"
    if answer.status is None:
        yield _unreachable(target, shop, answer)
    elif answer.status in _OPTIONS_UNSUPPORTED:
        yield _unclear(target, f"{shop} answers {answer.status} to OPTIONS", answer)
    elif trouble := _trouble_of(answer):
        yield _refused(target, f"{shop}: {trouble}, and a message would be refused in the same way", FIX)
    else:
        yield ok("delivery_url", f"{shop} answers")


def _trouble_of(answer: Answer) -> str:
    """Why a delivery with this answer would fail; empty if it would not."""
    assert answer.status is not None  # noqa: S101 - the caller has checked
    try:
        require_accepted(answer.status)
    except ShopRefused:
        return f"it answers {answer.status} to OPTIONS"
    return "it does not allow POST" if _does_allow_post(answer) is False else ""


def _does_allow_post(answer: Answer) -> bool | None:
    """Whether the answer's Allow header permits POST; None without the header."""
    allowed = answer.headers.get("allow")
    return None if allowed is None else "POST" in (method.strip().upper() for method in allowed.split(","))


def _unreachable(target: Target, shop: str, answer: Answer) -> Finding:
    if answer.is_slow:
        slow = f"{shop}: {answer.trouble}; a delivery fails after {ANSWER_SECONDS} seconds"
        return warn("delivery_url", slow, "have the shop answer first and process the message later")
    return _refused(target, f"{shop}: {answer.trouble}", FIX)


def _unclear(target: Target, seen: str, answer: Answer) -> Finding:
    allows = _does_allow_post(answer)
    if allows is False:
        return _refused(target, f"{seen} and does not allow POST", FIX)
    if allows or _has_recent_delivery(target):
        return ok("delivery_url", f"{seen}; {'it allows POST' if allows else 'it accepted a message in the last hour'}")
    advice = "make a small payment and run this again within an hour, or have the shop answer OPTIONS with Allow: POST"
    return cannot_tell("delivery_url", f"{seen}, which does not show whether it accepts messages", advice)


def _refused(target: Target, seen: str, advice: str) -> Finding:
    if _has_recent_delivery(target):
        return warn("delivery_url", f"{seen}; yet a message was accepted in the last hour", advice)
    return fail("delivery_url", seen, advice)


def _has_recent_delivery(target: Target) -> bool:
    """Whether a delivery succeeded recently. The merchant's own hook may not use DELIVERY_URL at all."""
    try:
        with target.reading() as tx:
            last = tx.backlog.last_delivered_at()
    except LnpayError:
        return False
    return last is not None and target.clock() - last < RECENT


def _check_deliveries(target: Target) -> Iterator[Finding]:
    name, now = "deliveries", target.clock()
    with target.reading() as tx:
        waiting = list(tx.figures.pending_deliveries().values())
        abandoned = tx.backlog.abandoned_since(now - REMEMBERED)
        refusal = tx.backlog.last_refusal()
    if abandoned:
        yield fail(
            name,
            f"abandoned in the last 30 days: {abandoned}{_because(refusal)}",
            "python main.py redeliver ORDER sends one again; the log names each (delivery abandoned)",
        )
    elif waiting:
        yield _waiting(name, waiting, refusal, target)
    else:
        yield ok(name, "the shop has accepted everything")


def _waiting(name: str, waiting: list[Waiting], refusal: str | None, target: Target) -> Finding:
    count = sum(one.count for one in waiting)
    age = target.clock() - min(one.since for one in waiting)
    text = f"messages waiting for the shop: {count}, the oldest for {in_words(age)}{_because(refusal)}"
    if age <= LATE:
        return ok(name, text)
    say = fail if age > VERY_LATE else warn
    return say(name, text, "fix the shop; LNPay keeps retrying, and python main.py redeliver ORDER retries now")


def _because(refusal: str | None) -> str:
    return f" ({refusal})" if refusal else ""


def _check_hook(target: Target) -> Iterator[Finding]:
    name, files = "delivery_hook", target.settings.hook_files
    own, shipped = files.own, files.shipped
    try:
        load_deliver(files)
    except HookUnusable as error:
        yield fail(name, error.message, "fix the file: LNPay does not start with it")
        return
    if is_shipped_changed(files):
        if hook_in_use(files) == shipped:
            unused, advice = "", f"copy it to {own} and restore the original"
        else:
            unused, advice = f", and it is not used, because {own} replaces it", "restore the original"
        yield warn(name, f"{shipped} was changed: the next upgrade overwrites it{unused}", advice)
    elif is_own_a_default(files):
        yield warn(name, f"{own} is an unchanged default", "remove it: the default is updated by upgrades")
    else:
        yield ok(name, f"{hook_in_use(files)} is used")


CHECKS = (
    Check(("delivery_hook",), _check_hook),
    Check(("delivery_url",), _check_address),
    Check(("deliveries",), _check_deliveries),
)
