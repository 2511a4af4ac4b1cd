"""The log: one event a line, as text or as JSON, with the id of the request and without a secret."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from lnpay.deliveries.send import send_due
from lnpay.repository import Repository
from lnpay.repository.tables import heartbeats
from lnpay.runtime.logs import request_id, set_up_logging, split_fields
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.databases import fresh_postgres
from tests.owing import owe, refund_of
from tests.world import World

log = logging.getLogger("lnpay.example")

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Give logging back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("lnpay")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last look, line by line."""
    return lambda: capsys.readouterr().err.splitlines()


@pytest.fixture
def in_request() -> Iterator[None]:
    """As while a request is served."""
    request_id.set("req-1")
    yield
    request_id.set("")


def parsed(lines: Lines) -> dict[str, Any]:
    """The one JSON object that was logged."""
    [line] = lines()
    found: dict[str, Any] = json.loads(line)
    return found


def fail() -> None:
    raise ValueError("it is\nbroken")


class TestLevels:
    def test_our_records_start_at_the_level_and_those_of_libraries_at_warning(self, lines: Lines) -> None:
        set_up_logging("info")
        for name in ("lnpay.example", "urllib3"):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING):
                logging.getLogger(name).log(level, "%s of %s", logging.getLevelName(level), name)

        heard = [line.split(" ", 2)[2] for line in lines()]

        assert heard == [
            "INFO lnpay.example INFO of lnpay.example",
            "WARNING lnpay.example WARNING of lnpay.example",
            "WARNING urllib3 WARNING of urllib3",
        ]

    def test_setting_it_up_again_does_not_duplicate_lines(self, lines: Lines) -> None:
        for _ in range(2):
            set_up_logging("info")
        log.info("once")

        assert len(lines()) == 1


class TestText:
    def test_a_line_has_time_level_logger_and_the_message(self, lines: Lines) -> None:
        set_up_logging("info", "text")
        log.info("invoice settled invoice_id=%s received_sats=%d", "abc", 5)

        [line] = lines()

        time, rest = line[:23], line[24:]
        assert datetime.strptime(time, "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007 - the log's is local
        assert rest == "INFO lnpay.example invoice settled invoice_id=abc received_sats=5"

    @pytest.mark.usefixtures("in_request")
    def test_in_a_request_it_ends_with_the_id(self, lines: Lines) -> None:
        set_up_logging("info", "text")
        log.info("invoice settled")

        assert lines()[0].endswith("invoice settled request_id=req-1")

    def test_a_quoted_text_cannot_begin_a_line(self, lines: Lines) -> None:
        set_up_logging("info", "text")
        log.warning("delivery refused reason=%s", "no\r\n2026-01-01 00:00:00,000 INFO lnpay.example all is well")

        [line] = lines()

        assert r"reason=no\r\n2026-01-01" in line

    def test_a_bug_has_its_stack_below_the_line(self, lines: Lines) -> None:
        set_up_logging("info", "text")
        try:
            fail()
        except ValueError:
            log.exception("refund could not be worked on refund_id=%d", 7)

        first, second, *rest = lines()

        assert first.endswith("ERROR lnpay.example refund could not be worked on refund_id=7")
        assert second == "Traceback (most recent call last):"
        assert rest[-2:] == ["ValueError: it is", "broken"]


class TestJson:
    def test_a_line_is_an_object_with_the_fields_of_the_message(self, lines: Lines) -> None:
        set_up_logging("info", "json")
        log.info("invoice settled invoice_id=%s received_sats=%d", "abc", 5)

        found = parsed(lines)

        said_at = datetime.fromisoformat(found.pop("time"))
        assert abs((datetime.now(UTC) - said_at).total_seconds()) < 60
        assert said_at.utcoffset() is not None
        assert found == {
            "level": "info", "logger": "lnpay.example", "message": "invoice settled", "invoice_id": "abc",
            "received_sats": 5,
        }  # fmt: skip

    @pytest.mark.usefixtures("in_request")
    def test_in_a_request_it_has_the_id(self, lines: Lines) -> None:
        set_up_logging("info", "json")
        log.info("invoice settled")

        assert parsed(lines)["request_id"] == "req-1"

    def test_a_bug_is_one_line_with_its_class(self, lines: Lines) -> None:
        set_up_logging("info", "json")
        try:
            fail()
        except ValueError:
            log.exception("refund could not be worked on error=%s", "what the message says")

        found = parsed(lines)

        assert found["error"] == "ValueError"
        assert found["traceback"].startswith("Traceback")
        assert found["traceback"].endswith("ValueError: it is\nbroken")

    def test_no_value_passes_for_another_level_or_time(self, lines: Lines) -> None:
        set_up_logging("info", "json")
        log.warning("delivery refused webhook_id=%s reason=%s", "msg_1", "x level=debug logger=mine webhook_id=msg_2")

        found = parsed(lines)

        assert (found["level"], found["logger"], found["webhook_id"]) == ("warning", "lnpay.example", "msg_1")


@pytest.mark.parametrize(
    ("message", "words", "fields"),
    [
        ("nothing to tell", "nothing to tell", {}),
        ("refund waits refund_id=3 state=failed reason=no answer from there", "refund waits", {
            "refund_id": 3, "state": "failed", "reason": "no answer from there",
        }),
        ("asked url=https://a.example/?x=1&y=2 status=503", "asked", {
            "url": "https://a.example/?x=1&y=2", "status": 503,
        }),
        ("RATE_MAX_AGE=300", "", {"RATE_MAX_AGE": 300}),
        ("twice a=1 a=2", "twice", {"a": 1}),
        ("empty a= b=", "empty", {"a": "", "b": ""}),
        ("not numbers a=-1 b=1.5 c=01234567890123456789 d=²", "not numbers", {
            "a": "-1", "b": "1.5", "c": "01234567890123456789", "d": "²",
        }),
    ],
)  # fmt: skip
def test_a_message_is_words_and_fields(message: str, words: str, fields: dict[str, object]) -> None:
    assert split_fields(message) == (words, fields)


SECRETS = {
    "strike_api_key": "a-key-of-the-tests",
    "webhook_secret": "a-secret-of-the-tests",
    "webhook_secret_old": "an-old-secret-of-the-tests",
    "delivery_secret": "whsec_c2VjcmV0LW9mLXRoZS1kZWxpdmVyaWVzLW9mLXRlc3Rz",
    "coingecko_api_key": "a-coingecko-key-of-the-tests",
    "admin_password": "a-password-of-the-tests",
    "metrics_token": "a-metrics-token-of-the-tests",
}


class TestDiscretion:
    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_a_whole_sale_is_logged_without_a_secret(
        self, make_world: Callable[..., World], lines: Lines, log_format: str
    ) -> None:
        set_up_logging("debug", log_format)
        world = make_world(api_keys=("a-shop-key-of-the-tests",), **SECRETS)
        tokens = tell_a_story(world)

        said = "\n".join(lines())

        for part in ("invoice settled", "invoice paid_late", "refund sent", "delivery refused", "strike refused",
                     "no price from any rate source", "database unavailable", "unexpected error",
                     "/refund/<token>"):  # fmt: skip
            assert part in said, part
        hidden = [*SECRETS.values(), "a-shop-key-of-the-tests", *tokens]
        assert [secret for secret in hidden if secret in said] == []

    def test_a_row_that_postgresql_quotes_is_not_repeated(self, postgres_server: str, lines: Lines) -> None:
        set_up_logging("info")
        row = {"worker": "a-private-word", "ended_at": None}
        with fresh_postgres(postgres_server) as url, contextlib.closing(Repository(url)) as repository:
            repository.upgrade()
            try:
                with repository.engine.begin() as connection:
                    connection.execute(insert(heartbeats), row)
            except IntegrityError:
                log.exception("unexpected error")

        said = "\n".join(lines())

        assert "null value in column" in said
        assert "a-private-word" not in said


def tell_a_story(world: World) -> list[str]:
    """A sale, a payment, a late one and its refund, and many failures. Returns what must stay secret."""
    world.client.environ_base["HTTP_AUTHORIZATION"] = "Bearer a-shop-key-of-the-tests"
    world.subscribe()
    world.simulator.shop.answer_with(500)
    paid = world.sell(ln_address="alice@example.com")
    world.pay(paid)
    world.pump()
    late = owe(world)
    tokens = [paid.token, late.token, refund_of(world, late).token, refund_of(world, late).idempotency_key]
    for one_pass in (main_pass, expired_pass, refund_pass):
        one_pass(world.backend)
    world.wait(5)
    send_due(world.backend.outbox)
    for path in (f"/checkout/{paid.token}", f"/checkout/{paid.token}/status", f"/refund/{tokens[2]}", "/metrics"):
        world.client.get(path)
    world.client.post("/webhook", data=b"{}", headers={"X-Webhook-Signature": "00" * 32})
    world.client.post("/generate-invoice", json={}, headers={"Authorization": "Bearer a-wrong-key"})
    execute(world, "CREATE TRIGGER broken BEFORE INSERT ON invoices BEGIN SELECT RAISE(ABORT, 'no'); END")
    world.ask(description="a-word-between-us")
    execute(world, "DROP TRIGGER broken")
    world.simulator.config.api_keys = {"another": ["*"]}
    world.ask()
    world.fault("GET", "/co*", "error", times=None, status=503)
    world.wait(400)
    world.ask()
    execute(world, "DROP TABLE refund_attempts", "DROP TABLE refunds")
    world.client.get(f"/refund/{tokens[2]}")
    return [*tokens, "a-word-between-us"]


def execute(world: World, *statements: str) -> None:
    """Change the database behind LNPay's back."""
    with world.backend.repository.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
