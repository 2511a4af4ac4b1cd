"""Archiving old invoices: every answer stays the same, nothing open is moved, and nothing is lost on the way."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update

from lnpay.commands import add_commands
from lnpay.deliveries.send import send_again, send_due
from lnpay.domain.errors import Stopping, StorageUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.invoices import archive as archiving
from lnpay.monitoring.overview import attention
from lnpay.repository.maintenance import inspect
from lnpay.repository.maintenance.backup import back_up, restore
from lnpay.repository.maintenance.copy import copy_database
from lnpay.repository.queries.archiving import OLDEST_CODE
from lnpay.repository.records import archive as records
from lnpay.repository.tables import deliveries, invoice_archive
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from tests.databases import fresh_postgres, migrated_postgres
from tests.greenfield.shop import Plugin
from tests.owing import owe, payouts, send
from tests.refunding import refund, refunds_of
from tests.world import World

DAY = 86_400
PASSWORD = "a password of the tests"
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world over each engine that archives after 30 days."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {"archive_after_days": 30, "admin_password": PASSWORD}
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            changes["database_url"] = stack.enter_context(migrated_postgres(server))
        made = World.make(tmp_path, **changes)
        stack.callback(made.close)
        yield made


def sale(world: World, **fields: Any) -> Invoice:
    """An order that is paid, and the shop was told."""
    invoice = world.sell(**fields)
    world.pay(invoice)
    main_pass(world.backend)
    assert [one.state for one in world.deliveries(invoice)] == [DeliveryState.DELIVERED]
    return world.invoice(invoice.strike_invoice_id)


def archived_after(world: World, days: float) -> int:
    """Let so much time pass; how many invoices a pass then archives."""
    world.wait(days * DAY)
    return expired_pass(world.backend).counts.get("archived", 0)


def columns(world: World, invoice: Invoice) -> tuple[str, str, str]:
    """What the columns of the row itself hold, as text."""
    query = "SELECT bolt11, strike_invoice, strike_quote FROM invoices WHERE id = :id"
    with world.backend.repository.engine.connect() as connection:
        row = connection.execute(text(query), {"id": invoice.id}).one()
    return row.bolt11, row.strike_invoice, row.strike_quote


EMPTY = ("", "{}", "{}")


def is_moved(world: World, invoice: Invoice) -> bool:
    return columns(world, invoice) == EMPTY


def archive_rows(world: World) -> int:
    with world.backend.repository.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(invoice_archive)).scalar_one())


def report(world: World) -> int:
    """The report of everything, with the comparison with Strike, as main.py prints it."""
    parser = argparse.ArgumentParser(prog="main.py")
    add_commands(parser.add_subparsers())
    options = parser.parse_args(("report", "--from", "2020-01-01", "--json"))
    code: int = options.command(world.backend, options)
    return code


def damage(world: World, invoice: Invoice, **values: Any) -> None:
    change = update(invoice_archive).where(invoice_archive.c.invoice_id == invoice.id).values(**values)
    with world.backend.repository.engine.begin() as connection:
        connection.execute(change)


def views(world: World, plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Every way to read every invoice, byte for byte."""
    seen: dict[str, object] = {}
    with world.backend.repository.reading() as tx:
        known = tx.attempts.of_order("order-1") + tx.attempts.of_order("order-2")
        seen["messages"] = [tx.deliveries.of_invoice(one.id) for one in known]
    paths = [
        "/invoices",
        "/invoices?order_id=order-1",
        "/admin/invoices",
        "/admin/refunds",
        "/admin/invoices?q=order-1",
    ]
    for one in known:
        name = one.strike_invoice_id
        paths += [f"/invoices/{name}{end}" for end in ("", "/qr.png", "/qr.svg")]
        paths += [f"/admin/invoices/{name}", f"/checkout/{one.token}", f"/checkout/{one.token}/status"]
    token = {"Authorization": f"Bearer {plugin.key}"}
    for path in paths:
        answer = world.client.get(path, headers={} if path.startswith(("/admin", "/checkout")) else token)
        # Each form to ask for a refund has a key of its own.
        seen[path] = (answer.status_code, re.sub(rb'(name="request_key" value=)"[^"]+"', rb"\1", answer.data))
    for one in known:
        for end in ("", "/payment-methods"):
            path = f"stores/{{store}}/invoices/{one.strike_invoice_id}{end}"
            answer = plugin.call("GET", path)
            seen[path] = (answer.status_code, answer.data)
    answer = plugin.call("GET", "stores/{store}/invoices")
    seen["greenfield list"] = (answer.status_code, answer.data)
    capsys.readouterr()
    seen["report"] = (report(world), capsys.readouterr().out)
    assert all(found[0] == 200 for found in seen.values() if isinstance(found, tuple) and isinstance(found[1], bytes))
    return seen


class TestReaders:
    def test_every_answer_about_an_archived_invoice_is_what_it_was(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plugin = Plugin.connect(world)
        key = {"Authorization": f"Bearer {plugin.key}"}
        world.client.environ_base["HTTP_AUTHORIZATION"] = key["Authorization"]
        settled = sale(world, correlation_id="order-1", metadata={"a": 1.10})
        late = owe(world, correlation_id="order-2")
        del world.client.environ_base["HTTP_AUTHORIZATION"]
        send(world)
        main_pass(world.backend)
        world.wait(31 * DAY)
        world.client.post("/admin/login", data={"password": PASSWORD})
        before = views(world, plugin, capsys)
        sources = [columns(world, one) for one in (settled, late)]

        assert archived_after(world, 0) == 2

        assert is_moved(world, settled)
        assert is_moved(world, late)
        after = views(world, plugin, capsys)
        assert after == before
        assert after["report"][0] == 0  # type: ignore[index]
        whole = world.invoice(settled.strike_invoice_id)
        assert (whole.issue.bolt11, whole.issue.strike_quote) == (settled.issue.bolt11, settled.issue.strike_quote)
        with world.backend.repository.reading() as tx:
            totals = tx.archive.totals()
        assert (totals.invoices, totals.source_bytes) == (2, sum(len(one.encode()) for row in sources for one in row))
        assert totals.kept_bytes < totals.source_bytes

    def test_a_message_is_sent_again_as_it_was(self, world: World) -> None:
        invoice = sale(world)
        assert archived_after(world, 31) == 1
        (first,) = world.told()

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send_due(world.backend.outbox)

        assert world.told() == [first, first]

    def test_a_webhook_about_one_changes_nothing(self, world: World) -> None:
        world.subscribe()
        invoice = sale(world)
        world.pump()
        assert archived_after(world, 31) == 1

        world.simulator.webhooks.emit("invoice.updated", invoice.strike_invoice_id, ["state"])

        assert set(world.pump()) == {200}
        assert len(world.told()) == 1
        assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.SETTLED

    def test_a_merchants_refund_of_one_is_sent_once(self, world: World) -> None:
        invoice = sale(world, ln_address="alice@example.com")
        assert archived_after(world, 400) == 1

        made = refund(world, world.invoice(invoice.strike_invoice_id))
        for _ in range(3):
            refund_pass(world.backend)
            world.wait(3_600)

        assert [one.state for one in refunds_of(world, invoice)] == [RefundState.SENT]
        assert refunds_of(world, invoice)[0].id == made.id
        assert len(payouts(world)) == 1

    def test_metrics_count_it(self, world: World) -> None:
        sale(world)
        archived_after(world, 31)

        metrics = world.client.get("/metrics").text

        assert "lnpay_archived_invoices 1.0" in metrics
        assert 'lnpay_archived_bytes{kind="moved"} ' in metrics


class TestWhatIsMoved:
    def test_it_is_off_by_default(self, make_world: Callable[..., World]) -> None:
        world = make_world()
        invoice = sale(world)

        assert archived_after(world, 4_000) == 0
        assert not is_moved(world, invoice)

    def test_only_what_was_done_long_enough_ago(self, world: World) -> None:
        old = sale(world)
        world.wait(20 * DAY)
        new = sale(world)

        assert archived_after(world, 9.9) == 0
        assert archived_after(world, 0.2) == 0, "it is looked for every six hours"
        assert archived_after(world, 0.2) == 1
        assert (is_moved(world, old), is_moved(world, new)) == (True, False)

    def test_nothing_that_is_not_paid(self, world: World) -> None:
        world.sell()

        assert archived_after(world, 60) == 0

    def test_nothing_the_shop_was_not_told_of(self, world: World) -> None:
        world.simulator.shop.answer_with(500, None)
        world.pay(world.sell())
        main_pass(world.backend)

        assert archived_after(world, 2) == 0
        for _ in range(40):
            world.wait(DAY)
            send_due(world.backend.outbox)
        with world.backend.repository.engine.connect() as connection:
            assert connection.execute(select(deliveries.c.state)).scalar_one() == DeliveryState.ABANDONED
        assert archived_after(world, 60) == 0

    def test_nothing_told_again_lately(self, world: World) -> None:
        invoice = sale(world)
        world.wait(29 * DAY)
        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send_due(world.backend.outbox)

        assert archived_after(world, 2) == 0
        assert archived_after(world, 29) == 1

    def test_no_late_payment_before_its_refund_is_sent(self, world: World) -> None:
        invoice = owe(world, None)
        assert archived_after(world, 60) == 0

        owed = world.refund(invoice)
        assert owed is not None
        world.client.post(f"/refund/{owed.token}", data={"ln_address": "alice@example.com"})
        send(world)
        assert len(payouts(world)) == 1
        assert archived_after(world, 1) == 0
        assert archived_after(world, 30) == 1

    def test_no_invoice_with_a_refund_that_is_open_or_new(self, world: World) -> None:
        invoice = sale(world, ln_address="alice@example.com")
        world.wait(40 * DAY)
        refund(world, invoice)

        assert archived_after(world, 0) == 0
        refund_pass(world.backend)
        assert archived_after(world, 29) == 0
        assert archived_after(world, 2) == 1

    def test_our_clock_alone_archives_nothing(self, world: World) -> None:
        invoice = sale(world)
        for skew in (400 * DAY, 5 * 3_600, -400 * DAY):
            world.skew_seconds = skew
            world.restart()
            expired_pass(world.backend)

        assert not is_moved(world, invoice)

    def test_a_clock_hours_ahead_archives_nothing_early(self, world: World) -> None:
        invoice = sale(world)
        world.wait(29.9 * DAY)
        world.skew_seconds = 5 * 3_600
        world.restart()

        assert archived_after(world, 0) == 0
        assert not is_moved(world, invoice)

    def test_without_strikes_time_nothing_is_archived(self, world: World) -> None:
        sale(world)
        world.wait(100 * DAY)
        world.restart()

        assert archiving.archive(world.backend.sweep_settlement, world.simulator.clock.now().timestamp(), 30) == 0

    def test_a_row_that_cannot_be_read_stays_and_keeps_no_other(self, world: World) -> None:
        bad, good = sale(world), sale(world)
        with world.backend.repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET strike_quote = '[' WHERE id = :id"), {"id": bad.id})

        assert archived_after(world, 31) == 1
        assert columns(world, bad)[2] == "["
        assert is_moved(world, good)


class TestInBoundedSteps:
    def test_what_is_archived_already_is_not_read_again(self, world: World) -> None:
        """Each batch has its index, or the last of ten million would take hours."""
        engine = world.backend.repository.engine
        asked: list[tuple[str, Any]] = []
        event.listen(engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
        with world.backend.repository.transaction() as tx:
            tx.archive.move(world.clock(), world.clock(), 10)
        (batch,) = [one for one in asked if "bolt11" in one[0]]

        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
                connection.exec_driver_sql("SET LOCAL enable_sort = off")
            how = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
            plan = str(connection.exec_driver_sql(f"{how} {batch[0]}", batch[1]).all())

        assert "ix_invoices_to_archive" in plan

    def test_a_pass_archives_so_many_and_the_next_goes_on(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("BATCH", 2), ("MOST_ARCHIVED", 3)):
            monkeypatch.setattr(archiving, name, value)
        for _ in range(4):
            sale(world)

        assert archived_after(world, 31) == 3
        assert archived_after(world, 0) == 1
        assert archived_after(world, 0) == 0

    def test_a_worker_that_is_asked_to_end_does(self, world: World) -> None:
        sale(world)
        world.wait(31 * DAY)
        world.backend.strike.measure_time()
        world.backend.stop.set()

        with pytest.raises(Stopping):
            archiving.archive(world.backend.sweep_settlement, 0.0, 30)


class TestNothingIsLost:
    def test_what_cannot_be_read_back_is_not_cut(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither when it is garbage, nor when it is something else that is sound."""
        invoice = sale(world)
        source = columns(world, invoice)
        world.wait(31 * DAY)
        other = dict(zip(records.FIELDS, ("lnbc1", "{}", "{}"), strict=True))
        for wrong in ((b"garbage", b""), records.pack(other)):
            monkeypatch.setattr("lnpay.repository.queries.archiving.pack", lambda _, wrong=wrong: wrong)
            with pytest.raises(StorageUnavailable, match="nothing was moved"):
                expired_pass(world.backend)

        assert (columns(world, invoice), archive_rows(world)) == (source, 0)

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_process_killed_at_the_commit_loses_nothing(self, world: World, moment: str) -> None:
        invoice = sale(world)
        source = columns(world, invoice)
        world.wait(31 * DAY)

        killed = subprocess.run(
            [sys.executable, "-c", KILLED, world.database_url, moment, world.clock().isoformat()],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip

        assert killed.returncode == -signal.SIGKILL
        if moment == "before":
            assert (columns(world, invoice), archive_rows(world)) == (source, 0)
            assert archived_after(world, 0) == 1
        assert is_moved(world, invoice)
        assert world.invoice(invoice.strike_invoice_id).issue.bolt11 == source[0]
        assert archived_after(world, 1) == 0

    def test_two_workers_at_once_move_each_once(self, world: World) -> None:
        moved = [sale(world) for _ in range(6)]
        now = world.clock() + timedelta(days=31)
        neighbour = world.neighbour(skew_seconds=0)
        if world.database_url.startswith("sqlite"):
            for one in (world.backend, neighbour):
                with one.repository.transaction() as tx:
                    tx.archive.move(now, now, 3)
        else:
            with world.backend.repository.transaction() as tx:
                assert tx.archive.move(now, now, 3) == 3
                with neighbour.repository.reading() as other:
                    # The first three are locked: a second worker passes over them and does not wait.
                    locked = other.archive._lock(now, 6)
                    assert len(locked) == 3
            with neighbour.repository.transaction() as tx:
                assert tx.archive.move(now, now, 6) == 3

        assert all(is_moved(world, one) for one in moved)
        with world.backend.repository.reading() as tx:
            assert tx.archive.totals().invoices == 6

    def test_a_refund_that_is_made_first_keeps_the_invoice(self, world: World) -> None:
        """The worker sees the refund of a request that was quicker, although the invoice was due before."""
        invoice = sale(world, ln_address="alice@example.com")
        world.wait(31 * DAY)
        world.backend.strike.measure_time()
        refund(world, invoice)

        now = world.clock()
        with world.backend.repository.transaction() as tx:
            assert tx.archive.move(now - timedelta(days=30), now, 10) == 0

    def test_older_code_is_kept_out_once_something_is_archived(self, world: World) -> None:
        def oldest() -> str | None:
            return inspect.look(world.database_url).oldest_code

        sale(world)
        archived_after(world, 1)
        first = oldest()
        archived_after(world, 30)

        assert first is not None
        assert first < OLDEST_CODE
        assert oldest() == OLDEST_CODE
        world.backend.repository.ping()

    def test_a_copy_on_postgresql_is_whole(self, make_world: Callable[..., World], postgres_server: str) -> None:
        world = make_world(archive_after_days=30)
        invoice = sale(world)
        archived_after(world, 31)
        world.backend.close()
        with fresh_postgres(postgres_server) as target:
            copy_database(world.database_url, target, world.clock(), lambda *_: None)
            assert inspect.look(target).oldest_code == OLDEST_CODE
            world.database_url = target
            world.restart()

            copied = world.invoice(invoice.strike_invoice_id)

            assert (copied.issue.bolt11, copied.issue.strike_quote) == (
                invoice.issue.bolt11, invoice.issue.strike_quote,
            )  # fmt: skip
            world.backend.close()

    def test_a_restored_backup_is_whole(self, make_world: Callable[..., World], tmp_path: Path) -> None:
        world = make_world(archive_after_days=30)
        invoice = sale(world)
        archived_after(world, 31)
        file = Path(world.database_url.removeprefix("sqlite:///"))
        back_up(file, tmp_path / "backup.sqlite", world.clock())
        damage(world, invoice, body=b"")
        world.backend.close()

        restore(tmp_path / "backup.sqlite", file, world.clock())
        world.restart()

        assert world.invoice(invoice.strike_invoice_id).issue.bolt11 == invoice.issue.bolt11


class TestADamagedArchive:
    @pytest.fixture(params=["garbage", "cut", "digest", "form", "gone"])
    def damaged(self, world: World, request: pytest.FixtureRequest) -> Invoice:
        invoice = sale(world, correlation_id="order-1")
        assert archived_after(world, 31) == 1
        with world.backend.repository.engine.begin() as connection:
            body = connection.execute(select(invoice_archive.c.body)).scalar_one()
            if request.param == "gone":
                connection.execute(invoice_archive.delete())
        changes = {
            "garbage": {"body": b"garbage"}, "cut": {"body": body[:-9]}, "digest": {"digest": b"x" * 32},
            "form": {"form": 99}, "gone": {"form": 1},
        }  # fmt: skip
        damage(world, invoice, **changes[request.param])
        return invoice

    def test_it_costs_no_page_and_is_reported(
        self, world: World, damaged: Invoice, caplog: pytest.LogCaptureFixture
    ) -> None:
        plugin = Plugin.connect(world)
        world.client.post("/admin/login", data={"password": PASSWORD})
        name, row = damaged.strike_invoice_id, f"invoice_archive {damaged.id}"
        pages = (f"/admin/invoices/{name}", f"/checkout/{damaged.token}", "/admin/invoices", "/admin")

        assert [world.client.get(path).status_code for path in pages] == [200] * 4
        methods = plugin.call("GET", f"stores/{{store}}/invoices/{name}/payment-methods")
        assert (methods.status_code, methods.get_json()[0]["destination"]) == (200, "")
        assert plugin.read({"id": name})["status"] == "Settled"
        answer = world.client.get(f"/invoices/{name}/qr.png")
        assert answer.status_code == 404
        assert "archive" in answer.get_json()["message"]
        assert report(world) == 0
        assert row in (main_pass(world.backend).trouble or "")
        assert any(row in one for one in attention(world.backend.repository, world.clock()).stalled)
        assert f"unreadable row table=invoice_archive key={damaged.id}" in caplog.text

    def test_the_columns_of_an_older_backup_repair_it(self, world: World) -> None:
        invoice = sale(world)
        backup = dict(zip(records.FIELDS, columns(world, invoice), strict=True))
        assert archived_after(world, 31) == 1
        damage(world, invoice, body=b"garbage")
        put_back = (
            "UPDATE invoices SET bolt11 = :bolt11, strike_invoice = :strike_invoice, strike_quote = :strike_quote, "
            "archived_at = NULL WHERE id = :id"
        )
        with world.backend.repository.engine.begin() as connection:
            connection.execute(text(put_back), {**backup, "id": invoice.id})
            connection.execute(text("DELETE FROM invoice_archive WHERE invoice_id = :id"), {"id": invoice.id})

        assert world.invoice(invoice.strike_invoice_id) == invoice
        assert main_pass(world.backend).trouble is None
        assert archived_after(world, 1) == 1
        assert world.invoice(invoice.strike_invoice_id).issue.bolt11 == invoice.issue.bolt11

    def test_it_can_still_be_refunded(self, world: World, damaged: Invoice) -> None:
        refund(world, world.invoice(damaged.strike_invoice_id))
        assert world.refund(damaged) is not None


KILLED = """
import os, signal, sys
from datetime import datetime, timedelta
from sqlalchemy.engine.default import DefaultDialect
from lnpay.repository import Repository

url, moment, now = sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3])
commit = DefaultDialect.do_commit

def killing(dialect, connection):
    if moment == "after":
        commit(dialect, connection)
    os.kill(os.getpid(), signal.SIGKILL)

repository = Repository(url)
with repository.transaction() as tx:
    assert tx.archive.move(now - timedelta(days=30), now, 10) == 1
    DefaultDialect.do_commit = killing
"""
