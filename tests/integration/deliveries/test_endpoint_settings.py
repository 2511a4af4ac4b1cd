"""What can be chosen about a webhook endpoint, by whom, and what is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks import Webhook

from lnpay.deliveries import endpoints as endpoints_module
from lnpay.deliveries.endpoints import (
    MAX_EVENTS,
    MAX_SECRET_CHARACTERS,
    MAX_URL_CHARACTERS,
    create_endpoint,
    delete_endpoint,
    get_endpoint,
    list_endpoints,
    send_test,
    update_endpoint,
)
from lnpay.domain.encoding.json_text import json_text
from lnpay.domain.errors import Conflict, InvalidRequest, NotFound
from lnpay.domain.states import EndpointForm, EndpointSetter
from tests.endpoint_shop import add_endpoint, open_shops
from tests.world import World

STANDARD, BTCPAY = EndpointForm.STANDARD, EndpointForm.BTCPAY
OPERATOR, KEY = EndpointSetter.OPERATOR, EndpointSetter.KEY
PUBLIC = "https://8.8.8.8/hook"


def refused(world: World, **fields: Any) -> dict[str, str]:
    """What is wrong with an endpoint that is not created."""
    with pytest.raises(InvalidRequest) as error:
        create_endpoint(world.backend.outbox, **{"url": PUBLIC, "form": BTCPAY, "by": OPERATOR, **fields})
    assert list_endpoints(world.backend.outbox) == []
    return error.value.errors


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "", "shop.example", "/hook", "//shop.example/hook", "ftp://shop.example/", "file:///etc/passwd",
            "javascript:alert(1)", "https:shop.example",
        ],
    )  # fmt: skip
    def test_one_that_is_not_absolute_is_refused(self, world: World, url: str) -> None:
        assert "absolute address" in refused(world, url=url)["url"]

    @pytest.mark.parametrize(
        "url",
        [
            "https://", "https:///hook", "http://shop.example:0/", "http://shop.example:99999/", "http://shop.example:x/",
            "http://[::1/", "https://:443/",
        ],
    )  # fmt: skip
    def test_one_without_a_valid_host_or_port_is_refused(self, world: World, url: str) -> None:
        assert refused(world, url=url)["url"] == "has no valid host or port"

    @pytest.mark.parametrize(
        "url",
        [
            "https://shop.example/a b",
            "https://shop.example\\@10.0.0.1/",
            "https://shop\n.example/",
            "https://shop.example/\u2028",
            " https://shop.example/",
        ],
    )
    def test_one_with_characters_that_no_url_has_is_refused(self, world: World, url: str) -> None:
        assert "character that no URL has" in refused(world, url=url)["url"]

    def test_one_with_a_login_is_refused(self, world: World) -> None:
        assert refused(world, url="https://user:word@shop.example/")["url"] == "must have no user name and no password"
        assert refused(world, url="https://shop.example@10.0.0.1/")["url"] == "must have no user name and no password"

    def test_one_that_is_too_long_is_refused(self, world: World) -> None:
        assert "2,000 characters" in refused(world, url=PUBLIC + "x" * MAX_URL_CHARACTERS)["url"]

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.169.254",
            "0.0.0.0", "[::1]",  # noqa: S104
            "[::]", "[fe80::1]", "[fc00::1]", "[fd12::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]",
            "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "100.64.0.1",
        ],
    )  # fmt: skip
    def test_a_key_may_not_point_into_a_private_network(self, make_world: Callable[..., World], host: str) -> None:
        world = make_world()
        url = f"http://{host}:8080/hook"

        assert "private network" in refused(world, url=url, by=KEY)["url"]
        assert create_endpoint(world.backend.outbox, url=url, form=BTCPAY, by=OPERATOR).url == url
        endpoint = create_endpoint(world.backend.outbox, url=PUBLIC, form=BTCPAY, by=KEY)
        with pytest.raises(InvalidRequest):
            update_endpoint(world.backend.outbox, endpoint.public_id, by=KEY, url=url)
        assert get_endpoint(world.backend.outbox, endpoint.public_id).url == PUBLIC

        world.restart(webhook_allow_private=True)
        update_endpoint(world.backend.outbox, endpoint.public_id, by=KEY, url=url)
        assert get_endpoint(world.backend.outbox, endpoint.public_id).url == url

    def test_a_name_that_leads_there_is_refused(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(None, None, None, "", ("192.168.0.9", 0))])

        assert "private network" in refused(world, url="https://shop.example/", by=KEY)["url"]

    def test_each_call_knows_whether_a_key_has_set_the_address(self, make_world: Callable[..., World]) -> None:
        """The check at each connection is made for those alone."""
        world = make_world()
        asked: list[tuple[str, bool]] = []

        def post(url: str, content: bytes, headers: Any, is_public_only: bool) -> int:
            asked.append((url, is_public_only))
            return 200

        setattr(world, "post_to_endpoint", post)  # noqa: B010 - mypy knows it as a method
        by_key = create_endpoint(world.backend.outbox, url=PUBLIC, form=BTCPAY, by=KEY)
        send_test(world.backend.outbox, by_key.public_id)
        update_endpoint(world.backend.outbox, by_key.public_id, by=OPERATOR, is_enabled=True)
        send_test(world.backend.outbox, by_key.public_id)
        update_endpoint(world.backend.outbox, by_key.public_id, by=OPERATOR, url="http://10.0.0.1/")
        send_test(world.backend.outbox, by_key.public_id)
        update_endpoint(world.backend.outbox, by_key.public_id, by=KEY, is_enabled=True)
        send_test(world.backend.outbox, by_key.public_id)
        update_endpoint(world.backend.outbox, by_key.public_id, by=KEY, url=PUBLIC)
        send_test(world.backend.outbox, by_key.public_id)
        world.restart(webhook_allow_private=True)
        send_test(world.backend.outbox, by_key.public_id)

        assert [is_public_only for _, is_public_only in asked] == [True, True, False, False, True, False]


class TestSecrets:
    def test_one_is_created_where_none_is_given(self, world: World) -> None:
        standard, btcpay = add_endpoint(world, form=STANDARD), add_endpoint(world, form=BTCPAY)

        assert Webhook(standard.secret)
        assert len(btcpay.secret) == 48
        assert standard.secret not in repr(standard)

    def test_an_invalid_secret_is_refused(self, world: World) -> None:
        assert "whsec_" in refused(world, form=STANDARD, secret="a secret")["secret"]
        for secret in ("", "x" * (MAX_SECRET_CHARACTERS + 1), "two\nlines"):
            assert "printable" in refused(world, secret=secret)["secret"]

    def test_it_stays_unless_another_is_given(self, world: World) -> None:
        endpoint = add_endpoint(world, secret="the first one")

        assert update_endpoint(world.backend.outbox, endpoint.public_id, by=KEY, events=[]).secret == "the first one"
        assert update_endpoint(world.backend.outbox, endpoint.public_id, by=KEY, secret="another").secret == "another"

    def test_a_deleted_endpoint_leaves_none_behind(self, world: World) -> None:
        endpoint = add_endpoint(world, secret="the-secret-of-a-shop")

        delete_endpoint(world.backend.outbox, endpoint.public_id)

        with world.backend.repository.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM webhook_endpoints").all()
        assert len(rows) == 1
        assert "the-secret-of-a-shop" not in str(rows)


class TestEvents:
    def test_the_standard_form_has_those_of_the_documentation(self, world: World) -> None:
        assert "invoice.settled" in refused(world, form=STANDARD, events=["InvoiceSettled"])["events"]
        assert add_endpoint(world, form=STANDARD, events=["refund.sent"]).events == {"refund.sent"}

    def test_a_plugin_may_ask_for_events_that_never_happen_here(self, world: World) -> None:
        assert add_endpoint(world, events=["PayoutCreated"]).wants("PayoutCreated")

    def test_unknown_event_names_are_refused(self, world: World) -> None:
        assert refused(world, events=["Invoice Settled"])["events"] == "must be names of events"
        assert "among InvoiceCreated, " in refused(world, events=["InvoiceSettled", "invoice.settled"])["events"]
        assert f"at most {MAX_EVENTS}" in refused(world, events=["A"] * (MAX_EVENTS + 1))["events"]

    def test_everything_can_be_said_beside_a_list(self, world: World) -> None:
        endpoint = add_endpoint(world, events=["InvoiceSettled"], wants_everything=True)
        assert endpoint.wants("InvoiceExpired")

        narrowed = update_endpoint(world.backend.outbox, endpoint.public_id, by=OPERATOR, events=["InvoiceSettled"])
        assert not narrowed.wants("InvoiceExpired")
        widened = update_endpoint(world.backend.outbox, endpoint.public_id, by=OPERATOR, wants_everything=True)
        assert widened.wants("InvoiceExpired")


class TestFinding:
    def test_a_form_sees_its_own_alone(self, world: World) -> None:
        """A Greenfield client neither sees nor changes what the operator set for a shop of another kind."""
        outbox = world.backend.outbox
        standard, btcpay = add_endpoint(world, form=STANDARD), add_endpoint(world, form=BTCPAY)

        assert list_endpoints(outbox) == [standard, btcpay]
        assert list_endpoints(outbox, form=BTCPAY) == [btcpay]
        calls: list[Callable[[], object]] = [
            lambda: get_endpoint(outbox, standard.public_id, form=BTCPAY),
            lambda: update_endpoint(outbox, standard.public_id, by=KEY, form=BTCPAY, is_enabled=False),
            lambda: delete_endpoint(outbox, standard.public_id, form=BTCPAY),
            lambda: send_test(outbox, standard.public_id, form=BTCPAY),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call()
        assert get_endpoint(outbox, standard.public_id) == standard

    @pytest.mark.parametrize("name", ["", "no such", "\x00", "ü", "' OR 1=1", "x" * 5_000])
    def test_a_name_that_is_none_finds_nothing(self, world: World, name: str) -> None:
        add_endpoint(world)

        with pytest.raises(NotFound):
            get_endpoint(world.backend.outbox, name)

    def test_a_deleted_one_is_gone(self, world: World) -> None:
        endpoint = add_endpoint(world)
        delete_endpoint(world.backend.outbox, endpoint.public_id)

        with pytest.raises(NotFound):
            delete_endpoint(world.backend.outbox, endpoint.public_id)
        with world.backend.repository.transaction() as tx:
            assert not tx.webhook_endpoints.update(endpoint.id, endpoint, KEY)
            assert not tx.webhook_endpoints.delete(endpoint.id, world.backend.clock())
        assert list_endpoints(world.backend.outbox) == []

    def test_deleting_an_endpoint_twice_at_once_deletes_it_once(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        endpoint = add_endpoint(world)
        delete_endpoint(world.backend.outbox, endpoint.public_id)
        monkeypatch.setattr(endpoints_module, "get_endpoint", lambda *_, **__: endpoint)

        delete_endpoint(world.backend.outbox, endpoint.public_id)

        assert list_endpoints(world.backend.outbox) == []

    def test_the_number_of_endpoints_is_limited(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endpoints_module, "MOST_ENDPOINTS", 2)
        first = add_endpoint(world)
        add_endpoint(world)

        with pytest.raises(Conflict, match="delete one first"):
            add_endpoint(world)
        delete_endpoint(world.backend.outbox, first.public_id)
        add_endpoint(world)


class TestTestMessages:
    def test_one_of_the_standard_form_reports_nothing(self, world: World) -> None:
        shops = open_shops(world)
        endpoint = add_endpoint(world, "https://a.test/", STANDARD, is_enabled=False)

        answer = send_test(world.backend.outbox, endpoint.public_id)

        (call,) = shops.calls
        assert (answer.status, answer.error) == (200, None)
        assert (call.body["type"], call.body["status"]) == ("test", "test")
        assert call.headers["webhook-signature"] == Webhook(endpoint.secret).sign(
            call.headers["webhook-id"], world.backend.clock(), call.content.decode()
        )
        assert get_endpoint(world.backend.outbox, endpoint.public_id).last_status == 200

    def test_a_btcpay_test_message_names_an_invoice_that_does_not_exist(self, world: World) -> None:
        shops = open_shops(world)
        endpoint = add_endpoint(world, "https://a.test/", secret="a secret")

        send_test(world.backend.outbox, endpoint.public_id)

        (call,) = shops.calls
        assert call.body["invoiceId"].startswith("__test__")
        assert call.body["storeId"]
        digest = hmac.new(b"a secret", call.content, hashlib.sha256).hexdigest()
        assert call.headers["BTCPay-Sig"] == f"sha256={digest}"

    def test_a_refusal_is_in_the_answer(self, world: World) -> None:
        shops = open_shops(world)
        shops.answers["https://a.test/"] = lambda _: 302
        endpoint = add_endpoint(world, "https://a.test/")

        answer = send_test(world.backend.outbox, endpoint.public_id)

        assert (answer.status, answer.error) == (302, "the shop answered 302")
        assert get_endpoint(world.backend.outbox, endpoint.public_id).last_error == "the shop answered 302"


class TestJsonText:
    @pytest.mark.parametrize(
        "text",
        [
            '{"a":1.10,"b":[1e5,-0.0,12345678901234567890.123456789],"c":{"d":null,"e":true,"f":"ü \\"1.10\\""}}',
            "[]", '"1.10"', "12.340", '{"1.10":"x"}',
        ],
    )  # fmt: skip
    def test_what_a_shop_sent_is_the_same_value_to_the_last_digit(self, text: str) -> None:
        value = json.loads(text, parse_float=Decimal)

        written = json_text(value)

        assert json.loads(written, parse_float=Decimal) == value
        assert [str(one) for one in decimals(json.loads(written, parse_float=Decimal))] == [
            str(one) for one in decimals(value)
        ]

    def test_invalid_json_raises(self) -> None:
        with pytest.raises(TypeError, match="set is not JSON"):
            json_text({"a": {1, 2}})


def decimals(value: object) -> list[Decimal]:
    """Every Decimal in a value, in order."""
    if isinstance(value, Decimal):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [one for part in parts for one in decimals(part)]
