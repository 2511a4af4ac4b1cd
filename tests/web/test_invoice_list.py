"""GET /invoices as a list: pages that hold still, filters, and a clear refusal of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import event

from lnpay.domain.states import InvoiceState
from lnpay.repository.queries.invoice_list import InvoiceList, ListFilter
from lnpay.runtime.worker_passes import expired_pass
from tests.databases import migrated_postgres
from tests.web.answers import assert_error
from tests.world import World


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    """A world over each engine."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            changes["database_url"] = stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_server")))
        yield make_world(**changes)


def page(world: World, **query: str | int) -> dict[str, Any]:
    answer = world.client.get("/invoices", query_string=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [one["correlation_id"] for one in found["invoices"]]


def sell(world: World, *numbers: int, **fields: Any) -> None:
    for number in numbers:
        world.sell(correlation_id=f"i-{number}", **fields)
        world.wait(1)


class TestPages:
    def test_the_newest_come_first_and_pages_follow_each_other(self, world: World) -> None:
        sell(world, *range(5))

        first = page(world, limit=2)
        second = page(world, limit=2, cursor=first["next_cursor"])
        third = page(world, limit=2, cursor=second["next_cursor"])

        assert [names(one) for one in (first, second, third)] == [["i-4", "i-3"], ["i-2", "i-1"], ["i-0"]]
        assert third["next_cursor"] is None

    def test_new_invoices_do_not_shift_the_pages(self, world: World) -> None:
        sell(world, 0, 1, 2)
        first = page(world, limit=2)
        sell(world, 3, 4)

        assert names(page(world, limit=2, cursor=first["next_cursor"])) == ["i-0"]

    def test_invoices_of_one_moment_are_all_listed_once(self, world: World) -> None:
        for number in range(4):
            world.sell(correlation_id=f"i-{number}")
        one = page(world, limit=1)
        found = names(one)
        while one["next_cursor"] is not None:
            one = page(world, limit=1, cursor=one["next_cursor"])
            found += names(one)

        assert sorted(found) == [f"i-{number}" for number in range(4)]

    def test_without_any_parameter_it_is_the_first_page(self, world: World) -> None:
        assert page(world) == {"invoices": [], "next_cursor": None}
        sell(world, 0)

        assert names(page(world)) == ["i-0"]


class TestFilters:
    def test_each_filter_applies(self, world: World) -> None:
        sell(world, 0, 1, order_id="order-1")
        world.wait(200)
        expired_pass(world.backend)
        sell(world, 2, order_id="order-1")
        sell(world, 3)
        moment = page(world, correlation_id="i-2", limit=1)["invoices"][0]["expiration_time"].replace("+00:00", "Z")

        assert names(page(world, state="expired")) == ["i-1", "i-0"]
        assert names(page(world, order_id="order-1", state="unpaid")) == ["i-2"]
        assert names(page(world, order_id="i-3", limit=5)) == ["i-3"]
        assert names(page(world, correlation_id="i-3", state="expired")) == []
        assert names(page(world, **{"from": "2026-01-01T00:02:00Z"})) == ["i-3", "i-2"]
        assert names(page(world, to="2026-01-01T00:02:00+00:00")) == ["i-1", "i-0"]
        assert names(page(world, to=moment)) == ["i-3", "i-2", "i-1", "i-0"]

    def test_the_old_answers_keep_their_shape(self, world: World) -> None:
        sell(world, 0, order_id="order-1")

        assert page(world, correlation_id="i-0")["state"] == "unpaid"
        assert page(world, order_id="order-1").keys() == {"order_id", "invoices"}

    def test_ids_that_no_database_can_store_find_nothing(self, world: World) -> None:
        assert page(world, correlation_id="a\0", limit=1)["invoices"] == []


def test_an_order_in_a_state_is_found_by_its_name(make_world: Callable[..., World]) -> None:
    """To go through all invoices of the state takes seconds where there are a million."""
    engine = make_world().backend.repository.engine
    plans: list[str] = []
    with engine.connect() as connection:

        def explain(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[-1] for row in cursor.fetchall())

        event.listen(connection, "before_cursor_execute", explain)
        wanted = ListFilter(order_id="order-1", state=InvoiceState.SETTLED)
        assert InvoiceList(connection).newest(wanted, 20, None) == []

    assert any("ix_invoices_order_id" in one for one in plans)
    assert not any("ix_invoices_state" in one for one in plans)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"), ("limit", "101"), ("limit", "-1"), ("limit", "1.5"), ("limit", "x"), ("limit", ""),
        ("state", "paid"), ("state", ""), ("from", "yesterday"), ("from", "2026-01-01"), ("to", "2026-01-01T00:00:00"),
        ("to", "0001-01-01T00:00:00+14:00"), ("cursor", ""), ("cursor", "x"), ("cursor", "é"), ("cursor", "MjAyNg"),
        ("cursor", "MjAyNi0wMS0wMVQwMDowMDowMC8x"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_a_400_that_names_it(make_world: Callable[..., World], name: str, value: str) -> None:
    answer = make_world().client.get("/invoices", query_string={name: value})

    assert name in assert_error(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "query", ["status=settled", "correlation_id=a&orderId=b", "state=settled&offset=20", "x" * 200]
)
def test_a_parameter_that_the_list_does_not_have_is_refused(make_world: Callable[..., World], query: str) -> None:
    """Ignored, `status=settled` would answer with the unpaid orders as well."""
    errors = assert_error(make_world().client.get(f"/invoices?{query}"), 400, "invalid_request")

    assert errors == {
        query.split("&")[-1].split("=")[0][:100]: "is not a parameter of this list; it has correlation_id, order_id, "
        "state, from, to, limit, cursor"
    }


def test_a_repeated_parameter_is_refused(make_world: Callable[..., World]) -> None:
    answer = make_world().client.get("/invoices?state=settled&state=expired")

    assert assert_error(answer, 400, "invalid_request") == {"state": "is given more than once"}
