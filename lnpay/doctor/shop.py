"""The shop: does its address answer, and does it take what it is told?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lnpay.delivery_hook import load_deliver
from lnpay.doctor.check import Check
from lnpay.doctor.findings import Finding, fail, ok, warn
from lnpay.doctor.knock import knock, place_of
from lnpay.doctor.patient import Patient
from lnpay.doctor.words import in_words
from lnpay.errors import HookUnusable, LnpayError
from lnpay.repository.figures import Waiting

LATE = timedelta(minutes=5)
VERY_LATE = timedelta(hours=1)
"""By now the shop has missed four attempts, and somebody has paid and got nothing."""

RECENT = timedelta(hours=1)

REMEMBERED = timedelta(days=30)
"""What was given up longer ago is history."""

MEND = "see that the shop runs and that DELIVERY_URL in config/.env is its address"


def _check_address(patient: Patient) -> Iterator[Finding]:
    """No order is sent: OPTIONS asks what the address takes, and whatever it says shows that somebody is there."""
    name, place = "delivery_url", place_of(patient.settings.delivery_url)
    answer = knock("OPTIONS", patient.settings.delivery_url)
    if answer.status is None or (answer.status >= 500 and answer.status != 501):
        seen = f"the shop at {place}: {answer.trouble or f'it answers {answer.status}'}"
        if _took_something(patient):
            yield warn(name, f"{seen}; yet a message was taken in the last hour", MEND)
        else:
            yield fail(name, seen, MEND)
    elif answer.status in (404, 410) or 300 <= answer.status < 400:
        seen = f"the shop at {place} answers {answer.status} to a question"
        yield warn(name, seen, f"{MEND}, to the letter; redirects are not followed")
    else:
        yield ok(name, f"the shop at {place} answers")


def _took_something(patient: Patient) -> bool:
    """A hook of the merchant's own may reach the shop in another way than by DELIVERY_URL."""
    try:
        with patient.reading() as tx:
            last = tx.backlog.last_delivered_at()
    except LnpayError:
        return False
    return last is not None and patient.clock() - last < RECENT


def _check_deliveries(patient: Patient) -> Iterator[Finding]:
    name, now = "deliveries", patient.clock()
    with patient.reading() as tx:
        waiting = list(tx.figures.pending_deliveries().values())
        abandoned = tx.backlog.abandoned_since(now - REMEMBERED)
        refusal = tx.backlog.last_refusal()
    if abandoned:
        yield fail(
            name,
            f"given up in the last 30 days: {abandoned}{_because(refusal)}",
            "python main.py redeliver ORDER sends one again; the log names each (delivery abandoned)",
        )
    elif waiting:
        yield _waiting(name, waiting, refusal, patient)
    else:
        yield ok(name, "the shop has taken everything")


def _waiting(name: str, waiting: list[Waiting], refusal: str | None, patient: Patient) -> Finding:
    count = sum(one.count for one in waiting)
    age = patient.clock() - min(one.since for one in waiting)
    text = f"messages that wait for the shop: {count}, the oldest for {in_words(age)}{_because(refusal)}"
    if age <= LATE:
        return ok(name, text)
    say = fail if age > VERY_LATE else warn
    return say(name, text, "mend the shop; LNPay goes on trying, and python main.py redeliver ORDER does so at once")


def _because(refusal: str | None) -> str:
    return f" ({refusal})" if refusal else ""


def _check_hook(patient: Patient) -> Iterator[Finding]:
    name, files = "delivery_hook", patient.settings.hook_files
    own, shipped = files.own, files.shipped
    try:
        load_deliver(files)
    except HookUnusable as error:
        yield fail(name, error.message, "fix the file: LNPay does not start with it")
        return
    if files.is_shipped_changed():
        used = "" if files.in_use == shipped else f", and has no effect beside {own}"
        advice = f"copy it to {own} and restore the original" if files.in_use == shipped else "restore the original"
        yield warn(name, f"{shipped} was changed: the next upgrade overwrites it{used}", advice)
    elif files.is_own_a_default():
        yield warn(name, f"{own} is an unchanged default", "remove it, so that upgrades can improve the default")
    else:
        yield ok(name, f"{files.in_use} is used")


CHECKS = (
    Check(("delivery_hook",), _check_hook),
    Check(("delivery_url",), _check_address),
    Check(("deliveries",), _check_deliveries),
)
