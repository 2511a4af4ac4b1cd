"""Run all checks in parallel, with one deadline for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from lnpay.doctor.check import Check
from lnpay.doctor.checks import (
    account,
    database,
    machine,
    prices,
    proxy,
    server,
    shop,
    simulated,
    webhook,
    work,
)
from lnpay.doctor.findings import Finding, cannot_tell
from lnpay.doctor.run_parallel import run_parallel
from lnpay.doctor.target import Target, open_target
from lnpay.domain.errors import LnpayError, StorageUnavailable, StrikeError
from lnpay.domain.model import Clock, utc_now
from lnpay.domain.settings import Settings

log = logging.getLogger(__name__)

LIMIT_SECONDS = 10.0
"""Deadline for all checks together, after the database inspection, which takes up to four seconds."""

CHECKS: tuple[Check, ...] = (
    *machine.CHECKS, *server.CHECKS, *proxy.CHECKS, *database.CHECKS, *simulated.CHECKS, *account.CHECKS,
    *prices.CHECKS, *webhook.CHECKS, *shop.CHECKS,
    *work.CHECKS,
)  # fmt: skip


_SEE: dict[type[LnpayError], str] = {
    StorageUnavailable: "see database and database_schema",
    StrikeError: "see strike, strike_key and strike_scopes",
}
"""The findings that explain an error."""


@dataclass
class _Notes:
    """What a check has found so far, and why it stopped."""

    findings: list[Finding] = field(default_factory=list)
    trouble: str = f"there was no answer within {LIMIT_SECONDS:g} seconds"
    advice: str = "run this again when the other findings are fixed"


def examine(settings: Settings, clock: Clock = utc_now) -> list[Finding]:
    """Run every check. Returns at least one finding of each name, in a fixed order, even if everything is broken."""
    with open_target(settings, clock) as target:
        return run_checks(CHECKS, target)


def run_checks(checks: Sequence[Check], target: Target) -> list[Finding]:
    """Run `checks` in parallel. One that fails or hangs does not hide the findings of the others."""
    notes = [_Notes() for _ in checks]
    run_parallel([partial(_run, *one, target) for one in zip(checks, notes, strict=True)], LIMIT_SECONDS)
    return [finding for one in zip(checks, notes, strict=True) for finding in _complete(*one)]


def _run(check: Check, notes: _Notes, target: Target) -> None:
    try:
        for finding in check.run(target):
            notes.findings.append(finding)
    except LnpayError as error:
        notes.trouble = error.message
        notes.advice = next((advice for kind, advice in _SEE.items() if isinstance(error, kind)), notes.advice)
    # A broken check must not hide the results of the others.
    except Exception as error:
        log.exception("doctor check failed names=%s", ",".join(check.names))
        notes.trouble = f"the check itself failed ({type(error).__name__})"


def _complete(check: Check, notes: _Notes) -> list[Finding]:
    """The findings, with "cannot tell" for each missing one."""
    found = list(notes.findings)
    names = {finding.name for finding in found}
    return found + [cannot_tell(name, notes.trouble, notes.advice) for name in check.names if name not in names]
