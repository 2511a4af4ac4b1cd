"""The list of invoices, with its filters."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import event

from lnpay.domain.model import utc_now
from lnpay.repository.queries.greenfield import GreenfieldInvoices, ListFilter
from lnpay.runtime.worker_passes import main_pass
from tests.greenfield.shop import Plugin
from tests.world import World


@pytest.fixture
def world(world_of_each_database: World) -> World:
    return world_of_each_database


def ids(plugin: Plugin, *query: tuple[str, object]) -> list[str]:
    """Ids of the listed invoices."""
    return [one["id"] for one in plugin.get(f"stores/{{store}}/invoices?{urlencode(query)}")]


@pytest.fixture
def made(plugin: Plugin, world: World) -> list[Any]:
    """Three invoices, far apart, the newest first. The oldest is paid."""
    invoices = []
    for order_id in ("1001", "1002", "1002"):
        invoices.append(plugin.create(metadata={"orderId": order_id}))
        if len(invoices) == 1:
            plugin.pay(invoices[0])
            main_pass(world.backend)
        world.wait(1000)
    return [plugin.read(one) for one in reversed(invoices)]


def test_without_filters_it_is_every_invoice_the_newest_first_as_each_is_read(plugin: Plugin, made: list[Any]) -> None:
    assert plugin.get("stores/{store}/invoices") == made


def test_order_ids_may_be_repeated(plugin: Plugin, made: list[Any]) -> None:
    assert ids(plugin, ("orderId", "1002")) == [made[0]["id"], made[1]["id"]]
    assert ids(plugin, ("orderId", "1002"), ("orderId", "1001")) == [one["id"] for one in made]
    assert ids(plugin, ("orderId[]", "1001")) == [made[2]["id"]]
    assert ids(plugin, ("orderId", "7")) == []


@pytest.mark.parametrize("name", ["orderId[0]", "orderId[7]", "orderid", "OrderId", "ORDERID[]"])
def test_a_filter_is_applied_however_a_client_writes_its_name(plugin: Plugin, made: list[Any], name: str) -> None:
    assert ids(plugin, (name, "1001")) == [made[2]["id"]]
    assert ids(plugin, (name, "1001"), ("orderId", "1002")) == [one["id"] for one in made]


def test_every_filter_is_applied_in_any_case(plugin: Plugin, made: list[Any]) -> None:
    newest, oldest = made[0], made[2]

    assert ids(plugin, ("Status[0]", "Settled")) == [oldest["id"]]
    assert ids(plugin, ("textsearch", "1001")) == [oldest["id"]]
    assert ids(plugin, ("STARTDATE", newest["createdTime"])) == [newest["id"]]
    assert ids(plugin, ("Skip", 1), ("Take", 1)) == [made[1]["id"]]


@pytest.mark.parametrize("order_id", ["x" * 41, "ä" * 200, "a b/c?d&e", "1" * 5_000])
def test_an_order_id_of_any_length_finds_its_invoice_alone(plugin: Plugin, order_id: str) -> None:
    made, other = (plugin.create(metadata={"orderId": one}) for one in (order_id, f"{order_id}y"))

    assert ids(plugin, ("orderId", order_id)) == [made["id"]]
    assert ids(plugin, ("orderId", f"{order_id}y")) == [other["id"]]


def test_statuses_may_be_repeated(plugin: Plugin, made: list[Any]) -> None:
    assert ids(plugin, ("status", "Settled")) == [made[2]["id"]]
    assert ids(plugin, ("status", "settled"), ("status", "Expired")) == [one["id"] for one in made]
    assert ids(plugin, ("status", "Nonsense")) == []
    assert ids(plugin, ("status", "Expired"), ("orderId", "1001")) == []


def test_a_text_is_the_id_of_an_invoice_or_of_an_order(plugin: Plugin, made: list[Any]) -> None:
    assert ids(plugin, ("textSearch", made[1]["id"])) == [made[1]["id"]]
    assert ids(plugin, ("textSearch", " 1001 ")) == [made[2]["id"]]
    assert ids(plugin, ("textSearch", "1001"), ("status", "Settled")) == [made[2]["id"]]
    assert ids(plugin, ("textSearch", "1001"), ("orderId", "1002")) == []
    assert ids(plugin, ("textSearch", "nothing")) == []


def test_dates_are_unix_seconds_of_the_creation(plugin: Plugin, made: list[Any]) -> None:
    middle = made[1]["createdTime"]

    assert ids(plugin, ("startDate", middle)) == [made[0]["id"], made[1]["id"]]
    assert ids(plugin, ("endDate", middle)) == [made[1]["id"], made[2]["id"]]
    assert ids(plugin, ("startDate", middle), ("endDate", middle), ("status", "Expired")) == [made[1]["id"]]


def test_skip_and_take_page_through(plugin: Plugin, made: list[Any]) -> None:
    assert [ids(plugin, ("skip", skip), ("take", 1)) for skip in range(4)] == [
        [made[0]["id"]], [made[1]["id"]], [made[2]["id"]], [],
    ]  # fmt: skip
    assert ids(plugin, ("status", "Expired"), ("status", "Settled"), ("skip", 1), ("take", 1)) == [made[1]["id"]]
    assert ids(plugin, ("take", 0)) == []


@pytest.mark.parametrize(
    "query",
    ["skip=-1", "take=a", "take=1.5", "skip=" + "9" * 30, "startDate=yesterday", "endDate=1e99", "startDate=NaN"],
)
def test_a_wrong_filter_is_named(plugin: Plugin, query: str) -> None:
    answer = plugin.call("GET", f"stores/{{store}}/invoices?{query}")

    assert answer.status_code == 422
    assert [one["path"] for one in answer.get_json()] == [query.partition("=")[0]]


@pytest.mark.parametrize("text", ["%00", "%ff", quote("\N{PILE OF POO}"), "%ED%A0%80", "+"])
def test_odd_text_finds_nothing_and_breaks_nothing(plugin: Plugin, made: list[Any], text: str) -> None:
    for name in ("orderId", "textSearch", "status"):
        answer = plugin.call("GET", f"stores/{{store}}/invoices?{name}={text}")

        assert answer.status_code == 200, answer.text
        assert text == "+" or answer.get_json() == []


def test_a_page_is_the_same_for_few_queries_and_for_many(plugin: Plugin, made: list[Any]) -> None:
    """Many order ids and statuses are more than a database takes in one query."""
    few = [("orderId", "1001"), ("orderId", "1002"), ("status", "Settled"), ("status", "Expired")]
    many = [*few, *(("orderId", f"x{number}") for number in range(90))]

    for query in (few, many):
        assert ids(plugin, *query) == [one["id"] for one in made]
        assert ids(plugin, *query, ("skip", 1), ("take", 1)) == [made[1]["id"]]
        assert ids(plugin, *query, ("skip", 3)) == []


def test_an_invoice_that_is_found_in_two_ways_is_listed_once(plugin: Plugin, made: list[Any]) -> None:
    assert ids(plugin, ("textSearch", made[2]["id"])) == [made[2]["id"]]
    assert ids(plugin, ("textSearch", "1001"), ("orderId", "1001"), ("status", "Settled")) == [made[2]["id"]]


def plan_of_a_far_page(world: World, *statuses: str) -> str:
    """How the database finds the ids of a page after 100,000 invoices."""
    engine = world.backend.repository.engine
    is_sqlite = engine.dialect.name == "sqlite"
    plans: list[str] = []
    with engine.connect() as connection:
        if not is_sqlite:  # An empty table is read whole, unless that is made dear.
            connection.exec_driver_sql("SET enable_seqscan = off")
            connection.exec_driver_sql("SET enable_bitmapscan = off")

        def explain(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
            if statement.startswith("SELECT"):
                cursor.execute(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{statement}", parameters)
                plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

        event.listen(connection, "before_cursor_execute", explain)
        wanted = ListFilter(statuses=frozenset(statuses))
        assert GreenfieldInvoices(connection).newest(wanted, utc_now(), 100_000, 20) == []
    return plans[0]


def test_a_page_of_settled_invoices_is_found_in_an_index(world: World) -> None:
    """To read every settled row before the page takes seconds where there are a million."""
    page = plan_of_a_far_page(world, "settled")

    assert "ix_invoices_settled_in_time" in page
    assert not any(word in page for word in ("TEMP B-TREE", "Sort"))


def test_a_page_of_several_statuses_is_merged_from_their_indexes(world: World) -> None:
    """To compare all that the indexes have before the page takes five to ten times as long."""
    page = plan_of_a_far_page(world, "settled", "expired")

    assert "ix_invoices_settled_in_time" in page
    if world.backend.repository.engine.dialect.name == "sqlite":
        # Unpaid invoices after their deadline are found by it, and sorted: they are the few that no pass has moved yet.
        assert "MERGE (UNION ALL)" in page
        assert page.count("TEMP B-TREE") == 1
    else:
        assert "Limit" in page.partition("Append")[2]
        assert not any(word in page for word in ("Unique", "HashAggregate"))
