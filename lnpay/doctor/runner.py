"""Make every check at the same time, and wait for none of them longer than for the others."""

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
from lnpay.doctor.run_parallel import run_at_once
from lnpay.doctor.target import Target, open_target
from lnpay.domain.errors import LnpayError, StorageUnavailable, StrikeError
from lnpay.domain.model import Clock, utc_now
from lnpay.domain.settings import Settings

log = logging.getLogger(__name__)

LIMIT_SECONDS = 10.0
"""For all checks together, after the look at the database, which takes up to four."""

CHECKS: tuple[Check, ...] = (
    *machine.CHECKS, *server.CHECKS, *proxy.CHECKS, *database.CHECKS, *simulated.CHECKS, *account.CHECKS,
    *prices.CHECKS, *webhook.CHECKS, *shop.CHECKS,
    *work.CHECKS,
)  # fmt: skip


_SEE: dict[type[LnpayError], str] = {
    StorageUnavailable: "see database and database_schema",
    StrikeError: "see strike, strike_key and strike_scopes",
}
"""Which findings say more about an error."""


@dataclass
class _Notes:
    """What a check has found so far, and why it found no more."""

    findings: list[Finding] = field(default_factory=list)
    trouble: str = f"there was no answer within {LIMIT_SECONDS:g} seconds"
    advice: str = "run this again when the other findings are fixed"


def examine(settings: Settings, clock: Clock = utc_now) -> list[Finding]:
    """Run every check. Returns at least one finding of each name, in a fixed order, even if everything is broken."""
    with open_target(settings, clock) as target:
        return make_checks(CHECKS, target)


def make_checks(checks: Sequence[Check], target: Target) -> list[Finding]:
    """Make `checks` at the same time. One that fails or hangs hides nothing of what the others find."""
    notes = [_Notes() for _ in checks]
    run_at_once([partial(_make, *one, target) for one in zip(checks, notes, strict=True)], LIMIT_SECONDS)
    return [finding for one in zip(checks, notes, strict=True) for finding in _complete(*one)]


def _make(check: Check, notes: _Notes, target: Target) -> None:
    try:
        for finding in check.run(target):
            notes.findings.append(finding)
    except LnpayError as error:
        notes.trouble = error.message
        notes.advice = next((advice for kind, advice in _SEE.items() if isinstance(error, kind)), notes.advice)
    # A check that is broken must not keep the others from being read.
    except Exception as error:
        log.exception("doctor check failed names=%s", ",".join(check.names))
        notes.trouble = f"the check itself failed ({type(error).__name__})"


def _complete(check: Check, notes: _Notes) -> list[Finding]:
    """What was found, and "cannot tell" for the rest."""
    found = list(notes.findings)
    told = {finding.name for finding in found}
    return found + [cannot_tell(name, notes.trouble, notes.advice) for name in check.names if name not in told]
