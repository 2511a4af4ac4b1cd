"""Every request has an id, in its answer and log lines, and one debug log line."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from lnpay.runtime.logs import request_id
from tests.world import World


def id_of(world: World, **headers: str) -> str:
    """The id that an answer carries."""
    return world.client.get("/healthz", headers=headers).headers["X-Request-Id"]


class TestId:
    def test_a_new_one_is_made_for_each(self, world: World) -> None:
        ids = {id_of(world) for _ in range(3)}

        assert len(ids) == 3
        assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)

    @pytest.mark.parametrize("given", ["a", "Req.1_2-3", "x" * 64])
    def test_the_caller_may_bring_one(self, world: World, given: str) -> None:
        assert id_of(world, **{"X-Request-Id": given}) == given

    @pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a=b", "<b>", "ä", "a\tb", "a,b"])
    def test_an_ambiguous_id_is_not_accepted(self, world: World, given: str) -> None:
        assert re.fullmatch(r"[0-9a-f]{32}", id_of(world, **{"X-Request-Id": given}))

    @pytest.mark.parametrize("path", ["/nothing", "/invoices/unknown", "/generate-invoice"])
    def test_an_error_has_one_too(self, world: World, path: str) -> None:
        assert world.client.get(path).headers["X-Request-Id"]

    def test_a_bug_can_be_found_by_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[str] = []

        def fail() -> None:
            seen.append(request_id.get())
            raise ZeroDivisionError

        monkeypatch.setattr("lnpay.web.operations.docs._document", fail)

        answer = world.client.get("/openapi.json")

        assert answer.status_code == 500
        assert [answer.headers["X-Request-Id"]] == seen
        assert "unexpected error" in caplog.text

    def test_it_ends_with_the_request(self, world: World) -> None:
        id_of(world)

        assert request_id.get() == ""

    def test_a_page_of_a_shop_may_read_it(self, make_world: Callable[..., World]) -> None:
        world = make_world(cors_origins=("https://shop.example",))

        answer = world.client.get("/invoices/unknown", headers={"Origin": "https://shop.example"})

        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]


class TestLine:
    def test_it_is_logged_at_debug_and_names_the_route_not_the_path(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        invoice = world.sell()
        with caplog.at_level(logging.DEBUG, "lnpay.web.request_log"):
            world.client.get(f"/checkout/{invoice.token}")

        assert re.fullmatch(r"request method=GET route=/checkout/<token> status=200 ms=[0-9]+", caplog.messages[-1]), (
            caplog.messages
        )
        assert invoice.token not in caplog.text

    def test_what_is_not_ours_has_no_path_in_it_either(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG, "lnpay.web.request_log"):
            world.client.get("/a/stranger/asks?for=much")

        assert caplog.messages[-1].startswith("request method=GET route=none status=404 ms=")

    def test_it_is_quiet_otherwise(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "lnpay"):
            world.client.get("/healthz")

        assert caplog.messages == []
