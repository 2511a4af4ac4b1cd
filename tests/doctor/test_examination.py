"""The checks together: each is independent of the others, and the list of findings is always complete."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from config.settings import load_settings
from lnpay.doctor import Finding, Verdict, runner
from lnpay.doctor.check import Check
from lnpay.doctor.findings import ok
from lnpay.doctor.formatting import in_words
from lnpay.doctor.runner import CHECKS, run_checks
from lnpay.doctor.target import Target, open_target
from lnpay.domain.errors import StorageUnavailable
from tests.doctor.installation import Installation


@pytest.fixture
def target(shop: Installation) -> Iterator[Target]:
    with open_target(load_settings({}, shop.env_file), shop.now) as admitted:
        yield admitted


def healthy(_: Target) -> Iterator[Finding]:
    yield ok("healthy", "well")


def half_seen(_: Target) -> Iterator[Finding]:
    yield ok("seen", "well")
    raise StorageUnavailable("the database has gone")


def broken(_: Target) -> list[Finding]:
    raise ZeroDivisionError("a secret perhaps")


def hanging(_: Target) -> Iterator[Finding]:
    yield ok("quick", "well")
    threading.Event().wait(30)


class TestRunChecks:
    def test_findings_made_before_a_check_fails_are_kept(self, target: Target) -> None:
        findings = run_checks([Check(("seen", "unseen"), half_seen), Check(("healthy",), healthy)], target)

        assert [(one.name, one.verdict, one.message) for one in findings] == [
            ("seen", Verdict.OK, "well"),
            ("unseen", Verdict.WARN, "cannot tell: the database has gone"),
            ("healthy", Verdict.OK, "well"),
        ]

    def test_a_broken_check_hides_no_other_and_shows_no_exception_text(self, target: Target) -> None:
        findings = run_checks([Check(("broken",), broken), Check(("healthy",), healthy)], target)

        assert [one.name for one in findings] == ["broken", "healthy"]
        assert findings[0].message == "cannot tell: the check itself failed (ZeroDivisionError)"

    def test_a_hanging_check_is_abandoned(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "LIMIT_SECONDS", 1.0)

        findings = run_checks([Check(("quick", "slow"), hanging), Check(("healthy",), healthy)], target)

        assert [(one.name, one.verdict) for one in findings] == [
            ("quick", Verdict.OK),
            ("slow", Verdict.WARN),
            ("healthy", Verdict.OK),
        ]
        assert "there was no answer within" in findings[1].message


class TestNames:
    def test_every_finding_appears_once_and_in_order_even_if_all_is_broken(self, shop: Installation) -> None:
        names = [name for check in CHECKS for name in check.names]
        well = [finding.name for finding in shop.examine()]
        shop.stop()
        shop.set(DATABASE_URL="sqlite:///no-such-file.sqlite", WEBHOOK_URL="", WEBHOOK_SECRET="")
        shop.simulator.config.api_keys = {}

        assert names == well == [finding.name for finding in shop.examine()]


class TestWords:
    @pytest.mark.parametrize(
        ("length", "words"),
        [
            (timedelta(seconds=1), "1 second"),
            (timedelta(seconds=-90), "90 seconds"),
            (timedelta(minutes=10), "10 minutes"),
            (timedelta(minutes=119), "119 minutes"),
            (timedelta(hours=2), "2 hours"),
            (timedelta(days=9), "9 days"),
        ],
    )
    def test_a_duration_in_words(self, length: timedelta, words: str) -> None:
        assert in_words(length) == words
