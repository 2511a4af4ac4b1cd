"""POST /webhook: a call is only trusted to say that something may have changed."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.sandbox.config import SimulatorConfig
from tests.web.answers import assert_error
from tests.world import WEBHOOK_SECRET, World

WEBHOOK_LIMIT_SECONDS = 5
"""The provider gives up after this."""


def signature(body: bytes, secret: str = WEBHOOK_SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().upper()


def send(world: World, body: bytes, header: str | None) -> TestResponse:
    headers = {} if header is None else {"X-Webhook-Signature": header}
    return world.client.post("/webhook", data=body, headers=headers)


def signed(world: World, event: object) -> TestResponse:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return send(world, body, signature(body))


def updated(invoice: Invoice, **changes: Any) -> dict[str, Any]:
    """An event as the provider sends it."""
    return {
        "id": "1552121f-ce10-4f15-894f-332516afd3cb",
        "eventType": "invoice.updated",
        "webhookVersion": "v1",
        "data": {"entityId": invoice.strike_invoice_id, "changes": ["state"]},
        "created": "2026-01-01T00:00:00.000+00:00",
        "deliverySuccess": True,
        **changes,
    }


def state(world: World, invoice: Invoice) -> InvoiceState:
    return world.invoice(invoice.strike_invoice_id).state


class TestSettling:
    def test_a_payment_is_settled_and_the_shop_owed_a_message(self, world: World) -> None:
        world.subscribe()
        invoice = world.sell()
        world.pay(invoice)

        assert world.pump()[-1] == 200
        assert state(world, invoice) is InvoiceState.SETTLED
        assert [delivery.event_type for delivery in world.deliveries(invoice)] == ["invoice.settled"]

    def test_the_dispatcher_is_woken(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        woken: list[bool] = []
        monkeypatch.setattr(world.backend.delivery_dispatcher, "wake", lambda: woken.append(True))
        invoice = world.sell()
        world.pay(invoice)

        signed(world, updated(invoice))

        assert woken == [True]

    def test_a_repeat_is_acknowledged_and_does_nothing(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        signed(world, updated(invoice))
        calls = len(world.calls())

        answers = [signed(world, updated(invoice)).status_code for _ in range(3)]

        assert (answers, len(world.calls())) == ([200] * 3, calls)
        assert len(world.deliveries(invoice)) == 1

    @pytest.mark.parametrize("kind", ["webhook_duplicate", "webhook_delay", "webhook_reorder", "webhook_forge"])
    def test_duplicate_delayed_reordered_and_forged_calls_settle_once(self, world: World, kind: str) -> None:
        world.subscribe()
        world.fault("POST", "*", kind, times=None, seconds=7)
        invoices = [world.sell() for _ in range(3)]
        for invoice in invoices:
            world.pay(invoice)

        statuses = world.pump()
        world.wait(10)
        statuses += world.pump()

        assert [state(world, invoice) for invoice in invoices] == ["settled"] * 3
        assert [len(world.deliveries(invoice)) for invoice in invoices] == [1, 1, 1]
        assert set(statuses) == ({200, 401} if kind == "webhook_forge" else {200})

    def test_lower_case_signatures_are_accepted(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(signature_case="lower"))
        world.subscribe()
        invoice = world.sell()
        world.pay(invoice)

        assert world.pump()[-1] == 200
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_a_body_that_claims_a_payment_is_not_trusted(self, world: World) -> None:
        invoice = world.sell()
        claim = {"entityId": invoice.strike_invoice_id, "state": "PAID", "changes": ["state"]}

        assert_error(signed(world, updated(invoice, data=claim)), 503, "provider_unavailable")
        assert state(world, invoice) is InvoiceState.UNPAID

    def test_an_event_before_the_payment_is_final_is_to_be_repeated(self, world: World) -> None:
        world.subscribe()
        invoice = world.sell()
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=5)

        assert world.pump()[-1] == 503
        world.wait(6)
        assert world.pump()[-1] == 200
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_a_cancelled_invoice_is_acknowledged(self, world: World) -> None:
        invoice = world.sell()
        world.simulator.invoices.cancel(world.simulator.invoices.by_id[invoice.strike_invoice_id])

        assert signed(world, updated(invoice)).status_code == 200

    def test_a_payment_of_a_cancelled_invoice_is_found_though_reads_lag_behind_its_event(self, world: World) -> None:
        world.simulator.config.update({"is_payable_after_cancel": True, "invoice_read_lag_seconds": 8})
        world.subscribe()
        invoice = world.sell()
        world.simulator.invoices.cancel(world.simulator.invoices.by_id[invoice.strike_invoice_id])
        world.wait(20)
        assert world.pump()[-1] == 200
        assert state(world, invoice) is InvoiceState.CANCELLED
        world.pay(invoice)

        assert world.pump()[-1] == 503
        world.wait(9)
        assert world.pump()[-1] == 200
        assert state(world, invoice) is InvoiceState.SETTLED

    @pytest.mark.parametrize(("age", "status"), [(5, 503), (-3_600, 503), (40, 200), (86_400, 200), (None, 503)])
    def test_an_event_that_tells_nothing_new_is_to_be_repeated_while_reads_may_lag(
        self, world: World, age: int | None, status: int
    ) -> None:
        invoice = world.sell()
        world.simulator.invoices.cancel(world.simulator.invoices.by_id[invoice.strike_invoice_id])
        signed(world, updated(invoice))
        assert state(world, invoice) is InvoiceState.CANCELLED
        created = "soon" if age is None else (world.clock() - timedelta(seconds=age)).isoformat()

        assert signed(world, updated(invoice, created=created)).status_code == status


class TestSignatures:
    @pytest.mark.parametrize(
        "header",
        [
            None, "", " ", "0" * 64, "x" * 64, signature(b"another body"), "v1," + "0" * 64, "0x" + "0" * 62,
            "ключ", "\xff" * 64, "0" * 63, "0" * 65, "٠" * 64, "00 " * 32, "sha256=" + "0" * 64, "A" * 100_000,
        ],
        ids=lambda header: ascii(header)[:20],
    )  # fmt: skip
    def test_a_wrong_one_is_a_401(self, world: World, header: str | None) -> None:
        invoice = world.sell()
        world.pay(invoice)
        body = json.dumps(updated(invoice)).encode()
        calls = len(world.calls())

        answer = send(world, body, None if header is None else header.encode().decode("latin-1"))

        assert_error(answer, 401, "signature_mismatch")
        assert (state(world, invoice), len(world.calls())) == (InvoiceState.UNPAID, calls)

    @pytest.mark.parametrize("secret", ["", "wrong", WEBHOOK_SECRET + " ", WEBHOOK_SECRET.upper()])
    def test_one_made_with_another_secret_is_a_401(self, world: World, secret: str) -> None:
        body = json.dumps(updated(world.sell())).encode()

        assert_error(send(world, body, signature(body, secret)), 401, "signature_mismatch")

    def test_one_byte_changed_is_a_401(self, world: World) -> None:
        body = json.dumps(updated(world.sell())).encode()

        assert_error(send(world, body + b" ", signature(body)), 401, "signature_mismatch")

    def test_an_unsigned_body_is_not_parsed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.invoices.webhook_invoice._parse", lambda _: pytest.fail("parsed"))

        assert_error(send(world, b"{", "0" * 64), 401, "signature_mismatch")

    def test_the_signature_is_over_the_bytes_as_they_came(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        body = json.dumps(updated(invoice), indent=3).replace("\n", "\r\n").encode()

        assert send(world, body, signature(body)).status_code == 200

    def test_during_a_secret_rotation_the_old_one_is_accepted_too(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_secret="the-new-secret", webhook_secret_old="the-old-secret")
        body = b"{}"

        codes = [
            send(world, body, signature(body, secret)).status_code
            for secret in ("the-new-secret", "the-old-secret", "another-secret")
        ]

        assert codes == [200, 200, 401]

    def test_an_old_secret_alone_is_a_mistake(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_secret="", webhook_secret_old="the-old-secret")
        body = b"{}"

        assert_error(send(world, body, signature(body, "the-old-secret")), 503, "webhook_not_configured")

    def test_without_a_secret_no_call_is_trusted(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_secret="")
        body = b"{}"

        assert_error(send(world, body, signature(body, "")), 503, "webhook_not_configured")


class TestOtherEvents:
    @pytest.mark.parametrize(
        "event",
        [
            {}, {"eventType": "invoice.updated"}, {"eventType": "invoice.updated", "data": None},
            {"eventType": "invoice.updated", "data": []}, {"eventType": "invoice.updated", "data": {"entityId": 5}},
            {"eventType": "invoice.updated", "data": {"entityId": None}}, {"eventType": None, "data": {}},
            {"eventType": "invoice.updated", "data": {"entityId": ""}},
            {"eventType": "invoice.updated", "data": {"entityId": "\x00"}},
            {"eventType": "invoice.updated", "data": {"entityId": "\ud800"}},
            {"eventType": "invoice.updated", "data": {"entityId": "x" * 10_000}},
            {"eventType": "invoice.updated", "data": {"entityId": "11111111-2222-4333-8444-555555555555"}},
            {"eventType": "payment.updated", "data": {"entityId": "\ud800"}},
            {"eventType": "something.new", "data": {"entityId": "11111111-2222-4333-8444-555555555555"}},
            {"eventType": ["invoice.updated"], "data": {"entityId": "x"}},
        ],
        ids=lambda event: ascii(event)[:60],
    )  # fmt: skip
    def test_events_about_other_objects_are_acknowledged(self, world: World, event: object) -> None:
        answer = signed(world, event)

        assert (answer.status_code, answer.get_json()) == (200, {"status": "success", "outcome": "ignored"})
        assert world.calls() == []

    def test_a_created_invoice_is_acknowledged_unread(self, world: World) -> None:
        world.subscribe()
        world.sell()

        assert world.pump() == [200]
        assert world.calls("GET /v1/invoices") == []

    @pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"not json", b"[" * 60_000, b"\xff", b"9" * 5_000])
    def test_a_body_that_is_not_an_event_is_a_400(self, world: World, body: bytes) -> None:
        assert_error(signed(world, body), 400, "invalid_request")

    def test_a_body_that_is_too_large_is_a_413(self, world: World) -> None:
        assert_error(signed(world, b"x" * 5_000_000), 413, "payload_too_large")

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_another_method_is_a_405(self, world: World, method: str) -> None:
        assert_error(world.client.open("/webhook", method=method), 405, "method_not_allowed")


OTHERS_ID = "11111111-2222-4333-8444-555555555555"

LIMIT_BYTES = 64 * 1024


def padded(size: int) -> bytes:
    """A valid event about an unknown object, of exactly this many bytes."""
    start, end = b'{"eventType": "invoice.updated", "data": {"entityId": "' + OTHERS_ID.encode() + b'"}, "x": "', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


OTHERS_EVENT = b'{"eventType": "invoice.updated", "data": {"entityId": "%s"}}' % OTHERS_ID.encode()

ODD_BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "white space": (b" \n\t ", 400),
    "a form": (b"eventType=invoice.updated&entityId=x", 400),
    "half an event": (b'{"eventType": "invoice.updated", "data": {"entityId": "x"', 400),
    "two events": (b'{"eventType": "a"}{"eventType": "b"}', 400),
    "a list of events": (b'[{"eventType": "invoice.updated"}]', 400),
    "NUL bytes": (b"\x00" * 100, 400),
    "a NUL behind an event": (b'{"eventType": "invoice.updated"}\x00', 400),
    "a raw NUL in a text": (b'{"eventType": "invoice.updated", "data": {"entityId": "\x00"}}', 400),
    "a NUL in an id": (rb'{"eventType": "invoice.updated", "data": {"entityId": "a\u0000b"}}', 200),
    "a NUL in a payment's id": (rb'{"eventType": "payment.updated", "data": {"entityId": "a\u0000b"}}', 200),
    "half a character": (rb'{"eventType": "payment.created", "data": {"entityId": "\udfff"}}', 200),
    "no UTF-8": (b'{"eventType": "\xc3\x28"}', 400),
    "UTF-16": ('{"eventType": "invoice.updated", "data": {"entityId": "x"}}'.encode("utf-16"), 200),
    "deep lists": (b'{"eventType": "invoice.updated", "data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
    "deep objects": (b'{"data":' * 7_000 + b"1" + b"}" * 7_000, 400),
    "a deep id": (b'{"eventType": "invoice.updated", "data": {"entityId": ' + b"[" * 99 + b"]" * 99 + b"}}", 200),
    "a number of too many digits": (b'{"eventType": "invoice.updated", "data": ' + b"9" * 5_000 + b"}", 400),
    "a number that is too large": (b'{"eventType": "invoice.updated", "data": {"entityId": 1e999999}}', 200),
    "no number": (b'{"eventType": "invoice.updated", "data": {"entityId": NaN, "changes": [-Infinity]}}', 200),
    "the id as a number": (b'{"eventType": "payment.updated", "data": {"entityId": 12345678901234567890}}', 200),
    "the id as true": (b'{"eventType": "invoice.updated", "data": {"entityId": true}}', 200),
    "the id as an object": (b'{"eventType": "invoice.updated", "data": {"entityId": {"$ne": ""}}}', 200),
    "the data as a text": (b'{"eventType": "invoice.updated", "data": "entityId"}', 200),
    "the type as a number": (b'{"eventType": 5, "data": {"entityId": "x"}}', 200),
    "the type as an object": (b'{"eventType": {}, "data": {"entityId": "x"}}', 200),
    "an unknown event": (b'{"eventType": "invoice.melted", "data": {"entityId": "x"}}', 200),
    "the event in capitals": (b'{"eventType": "INVOICE.UPDATED", "data": {"entityId": "x"}}', 200),
    "an invoice of others": (OTHERS_EVENT, 200),
    "a payment of others": (OTHERS_EVENT.replace(b"invoice", b"payment"), 200),
    "a path as an id": (b'{"eventType": "invoice.updated", "data": {"entityId": "../../payments"}}', 200),
    "a query as an id": (b'{"eventType": "payment.updated", "data": {"entityId": "x?y=z#"}}', 200),
    "SQL as an id": (b'{"eventType": "invoice.updated", "data": {"entityId": "\' OR 1=1 --"}}', 200),
    "exactly 64 KiB": (padded(LIMIT_BYTES), 200),
    "one byte more": (padded(LIMIT_BYTES + 1), 413),
}  # fmt: skip
"""By what is odd: a body, and the answer to it when it is signed."""


class TestOddBodies:
    """Correctly signed bodies, as from a changed provider or a stolen secret."""

    @pytest.mark.parametrize(("body", "status"), ODD_BODIES.values(), ids=ODD_BODIES)
    def test_garbage_costs_no_call_and_no_payment(self, world: World, body: bytes, status: int) -> None:
        invoice = world.sell()
        world.pay(invoice)
        before = len(world.calls())

        answer = signed(world, body)

        assert answer.status_code == status, answer.text
        assert len(world.calls()) == before
        assert state(world, invoice) is InvoiceState.UNPAID
        assert signed(world, updated(invoice)).status_code == 200
        assert state(world, invoice) is InvoiceState.SETTLED
        assert len(world.deliveries(invoice)) == 1

    @pytest.mark.parametrize("place", ["first", "last"])
    def test_of_two_ids_in_one_event_the_last_counts_and_the_payment_is_not_lost(
        self, world: World, place: str
    ) -> None:
        world.subscribe()
        invoice = world.sell()
        world.pay(invoice)
        ids = [invoice.strike_invoice_id, OTHERS_ID] if place == "first" else [OTHERS_ID, invoice.strike_invoice_id]
        pairs = ", ".join(f'"entityId": "{one}"' for one in ids)

        answer = signed(world, f'{{"eventType": "invoice.updated", "data": {{{pairs}}}}}'.encode())

        assert answer.status_code == 200
        assert state(world, invoice) is (InvoiceState.SETTLED if place == "last" else InvoiceState.UNPAID)
        world.pump()
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_an_event_with_much_around_it_settles(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        more = {"nested": json.loads("[" * 90 + "]" * 90), "number": 10**300, "text": "\x00\u2028" * 1_000}

        assert signed(world, updated(invoice, more=more)).status_code == 200
        assert state(world, invoice) is InvoiceState.SETTLED


class TestProviderTrouble:
    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "error", "status": 500}, {"kind": "error", "status": 503},
            {"kind": "error", "status": 401, "code": "UNAUTHORIZED"},
            {"kind": "error", "status": 404, "code": "NOT_FOUND"}, {"kind": "html403"}, {"kind": "rate_limited"},
            {"kind": "unreachable"}, {"kind": "lost_answer"}, {"kind": "garbage"}, {"kind": "truncated"},
            {"kind": "field_changed", "field": "state", "value": "NEW"},
            {"kind": "field_changed", "field": "transactions.0.created", "value": "soon"},
        ],
        ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
    )  # fmt: skip
    def test_an_event_that_cannot_be_processed_now_is_to_be_repeated(self, world: World, fault: dict[str, Any]) -> None:
        world.subscribe()
        invoice = world.sell()
        world.pump()
        world.pay(invoice)
        world.fault("GET", "/v1/invoices/*", **fault)

        assert world.pump() == [503]
        world.wait(100)
        assert world.pump() == [200]
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_the_answer_has_the_one_shape(self, world: World) -> None:
        invoice = world.sell()
        world.fault("GET", "/v1/invoices/*", "error", status=500)

        assert_error(signed(world, updated(invoice)), 503, "provider_unavailable")

    @pytest.mark.parametrize("fault", [{"kind": "timeout_after"}, {"kind": "delay", "seconds": 9}])
    def test_a_slow_provider_is_answered_well_within_its_own_limit(self, world: World, fault: dict[str, Any]) -> None:
        invoice = world.sell()
        world.pay(invoice)
        world.fault("GET", "/v1/invoices/*", **fault)
        before = world.backend.clock()

        assert_error(signed(world, updated(invoice)), 503, "provider_unavailable")
        assert (world.backend.clock() - before).total_seconds() <= WEBHOOK_LIMIT_SECONDS - 1

    def test_a_provider_that_is_only_a_little_slow_is_waited_for(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        world.fault("GET", "/v1/invoices/*", "delay_after", seconds=2)

        assert signed(world, updated(invoice)).status_code == 200
        assert state(world, invoice) is InvoiceState.SETTLED
