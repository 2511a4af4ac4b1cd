"""Signatures: Strike's over its calls, ours over deliveries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from lnpay.domain.errors import SignatureMismatch
from lnpay.domain.webhook_signature import (
    decode_delivery_secret,
    delivery_headers,
    sign_delivery,
    verify_strike_signature,
)

STRIKE_SECRET = "ScKc2Phr37RzfESKGYPh6CnZqNxc9t"
STRIKE_BODY = (
    b'{"id":"1552121f-ce10-4f15-894f-332516afd3cb","eventType":"invoice.updated","webhookVersion":"v1",'
    b'"data":{"entityId":"23bf3150-3889-4852-b712-a9059af97d9f","changes":["state"]},'
    b'"created":"2022-11-04T20:31:25.923252+00:00","deliverySuccess":true}'
)
STRIKE_SIGNATURE = "53057056622336ABB56C21FD1580C2F131B9F9530C0D3A746CFD318E980E6FE4"

DELIVERY_KEY = bytes(range(32))
DELIVERY_SECRET = "whsec_" + base64.b64encode(DELIVERY_KEY).decode()

secrets_of_strike = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10, max_size=50)


def strike_signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def flipped(data: bytes, bit: int) -> bytes:
    mutable = bytearray(data)
    mutable[bit // 8] ^= 1 << bit % 8
    return bytes(mutable)


class TestStrike:
    @pytest.mark.parametrize("header", [STRIKE_SIGNATURE, STRIKE_SIGNATURE.lower(), STRIKE_SIGNATURE.swapcase()])
    def test_the_known_signature_is_accepted_in_any_case(self, header: str) -> None:
        verify_strike_signature(STRIKE_BODY, header, STRIKE_SECRET)

    @given(secrets_of_strike, st.binary())
    def test_what_was_signed_is_accepted(self, secret: str, body: bytes) -> None:
        verify_strike_signature(body, strike_signature(secret, body), secret)

    @given(st.integers(0, 8 * len(STRIKE_BODY) - 1))
    def test_one_flipped_bit_of_the_body_is_refused(self, bit: int) -> None:
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(flipped(STRIKE_BODY, bit), STRIKE_SIGNATURE, STRIKE_SECRET)

    @pytest.mark.parametrize("bit", range(256))
    def test_one_flipped_bit_of_the_signature_is_refused(self, bit: int) -> None:
        header = flipped(bytes.fromhex(STRIKE_SIGNATURE), bit).hex()

        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, header, STRIKE_SECRET)

    @given(st.integers(0, 8 * len(STRIKE_SECRET) - 1))
    def test_one_flipped_bit_of_the_secret_is_refused(self, bit: int) -> None:
        other = flipped(STRIKE_SECRET.encode(), bit).decode("latin-1")

        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, STRIKE_SIGNATURE, other)

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            " ",
            STRIKE_SIGNATURE[:-1],
            STRIKE_SIGNATURE[:-2],
            STRIKE_SIGNATURE + "00",
            STRIKE_SIGNATURE + "\n",
            " " + STRIKE_SIGNATURE,
            STRIKE_SIGNATURE[:2] + " " + STRIKE_SIGNATURE[2:],
            "sha256=" + STRIKE_SIGNATURE,
            STRIKE_SIGNATURE[:-1] + "G",
            STRIKE_SIGNATURE[:-1] + "é",
            STRIKE_SIGNATURE.translate({ord("5"): "٥"}),
            STRIKE_SIGNATURE.translate({ord("5"): "５"}),
            "0" * 1_000_000,
        ],
    )
    def test_a_header_of_another_shape_is_refused(self, header: str | None) -> None:
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, header, STRIKE_SECRET)

    @given(st.text(), st.binary())
    def test_any_text_as_header_is_refused_and_nothing_else_happens(self, header: str, body: bytes) -> None:
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(body, header, STRIKE_SECRET)

    def test_an_empty_secret_never_verifies(self) -> None:
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, strike_signature("", STRIKE_BODY), "")
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, strike_signature("", STRIKE_BODY), STRIKE_SECRET, "")
        with pytest.raises(SignatureMismatch):
            verify_strike_signature(STRIKE_BODY, STRIKE_SIGNATURE)

    def test_any_of_several_secrets_verifies(self) -> None:
        verify_strike_signature(STRIKE_BODY, STRIKE_SIGNATURE, "another-secret", STRIKE_SECRET)

    def test_a_refusal_says_neither_secret_nor_expected_signature(self) -> None:
        with pytest.raises(SignatureMismatch) as refusal:
            verify_strike_signature(STRIKE_BODY, "00" * 32, STRIKE_SECRET)

        assert STRIKE_SECRET not in str(refusal.value)
        assert STRIKE_SIGNATURE.lower() not in str(refusal.value).lower()


class TestDelivery:
    @given(
        st.binary(min_size=24, max_size=64),
        st.uuids().map(str),
        st.dictionaries(st.text(), st.text() | st.integers()),
    )
    def test_an_independent_verifier_accepts_it(self, key: bytes, message_id: str, event: object) -> None:
        secret = "whsec_" + base64.b64encode(key).decode()
        body = json.dumps(event, ensure_ascii=False).encode()

        headers = delivery_headers(secret, message_id, datetime.now(UTC), body)

        assert Webhook(secret).verify(body, headers) == event

    @pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_an_independent_verifier_refuses_it_when_a_part_was_changed(self, part: str) -> None:
        headers = delivery_headers(DELIVERY_SECRET, "m1", datetime.now(UTC), b'{"a":1}')
        body = b'{"a":2}' if part == "body" else b'{"a":1}'
        changed = {
            "webhook-id": "m2",
            "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1),
            "webhook-signature": "v1," + base64.b64encode(bytes(32)).decode(),
        }
        if part != "body":
            headers[part] = changed[part]

        with pytest.raises(WebhookVerificationError):
            Webhook(DELIVERY_SECRET).verify(body, headers)

    def test_a_known_delivery_has_known_headers(self) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
        signed = b'message-1.1767323045.{"type":"invoice.settled"}'
        expected = base64.b64encode(hmac.new(DELIVERY_KEY, signed, hashlib.sha256).digest()).decode()

        headers = delivery_headers(DELIVERY_SECRET, "message-1", at, b'{"type":"invoice.settled"}')

        assert headers == {
            "webhook-id": "message-1",
            "webhook-timestamp": "1767323045",
            "webhook-signature": f"v1,{expected}",
        }

    def test_without_a_secret_there_is_an_id_and_a_time_but_no_signature(self) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

        assert delivery_headers("", "m", at, b"{}") == {"webhook-id": "m", "webhook-timestamp": "1767323045"}

    def test_another_attempt_keeps_the_id_and_has_its_own_signature(self) -> None:
        at = datetime(2026, 1, 2, tzinfo=UTC)

        first = sign_delivery(DELIVERY_SECRET, "m", at, b"{}")
        second = sign_delivery(DELIVERY_SECRET, "m", at + timedelta(seconds=1), b"{}")

        assert first != second

    @pytest.mark.parametrize("secret", ["", DELIVERY_SECRET])
    def test_a_time_without_a_zone_is_refused(self, secret: str) -> None:
        with pytest.raises(ValueError, match="zone"):
            delivery_headers(secret, "m", datetime(2026, 1, 2), b"{}")  # noqa: DTZ001


class TestDeliverySecret:
    @given(st.binary(min_size=24, max_size=64))
    def test_its_key_comes_back_padded_or_not(self, key: bytes) -> None:
        secret = "whsec_" + base64.b64encode(key).decode()

        assert decode_delivery_secret(secret) == key
        assert decode_delivery_secret(secret.rstrip("=")) == key

    @pytest.mark.parametrize(
        ("secret", "why"),
        [
            ("", "start with whsec_"),
            (DELIVERY_SECRET.removeprefix("whsec_"), "start with whsec_"),
            (DELIVERY_SECRET.upper(), "start with whsec_"),
            ("whsec_", "24 to 64 bytes"),
            ("whsec_" + base64.b64encode(bytes(23)).decode(), "not 23"),
            ("whsec_" + base64.b64encode(bytes(65)).decode(), "not 65"),
            ("whsec_" + "A" * 41, "base64"),
            ("whsec_" + "A" * 20 + "\n" + "A" * 20, "base64"),
            ("whsec_" + "A" * 39 + "-", "base64"),
            ("whsec_" + "A" * 39 + "é", "base64"),
        ],
    )
    def test_a_bad_one_is_refused_with_a_reason(self, secret: str, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            decode_delivery_secret(secret)

    def test_a_refusal_does_not_say_the_secret(self) -> None:
        with pytest.raises(ValueError) as refusal:
            decode_delivery_secret("whsec_VerySecret!")

        assert "VerySecret" not in str(refusal.value)
        assert refusal.value.__suppress_context__
