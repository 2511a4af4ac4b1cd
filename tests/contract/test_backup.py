"""A backup is the database at one moment, checked; restoring it is refused where it would do harm."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lnpay.commands import add_commands
from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    SchemaTooNew,
    StorageUnavailable,
)
from lnpay.repository import Repository
from lnpay.repository.maintenance.backup import back_up, check_backup, restore
from lnpay.repository.maintenance.dump import restore_command
from lnpay.repository.repository import SCHEMA_VERSION
from tests.databases import find_postgres_tools, fresh_postgres
from tests.owing import owe
from tests.test_commands import start
from tests.world import World, world_settings

NOW = datetime(2026, 5, 18, 12, 0, 30, tzinfo=UTC)


def file_of(world: World) -> Path:
    return Path(world.database_url.removeprefix("sqlite:///"))


def run(world: World, *arguments: str) -> int:
    """As main.py does, for commands that take the settings."""
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    options = parser.parse_args(arguments)
    return int(options.on_settings(world_settings(world.database_url), options))


def execute(file: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement as another program would."""
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement, values).fetchall()


class TestBackup:
    def test_it_holds_everything_and_says_what(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        owe(world)
        world.sell()
        target = tmp_path / "copy.sqlite"

        assert run(world, "backup", str(target)) == 0

        text = capsys.readouterr().out
        assert f"{target} ({target.stat().st_size:,} bytes)" in text
        assert "It has 2 invoices, 1 refunds, 0 refund attempts, 0 deliveries; " in text
        assert f"newest invoice created at 2026-01-01 00:03:00 UTC; schema version {SCHEMA_VERSION}." in text
        assert execute(target, "SELECT * FROM invoices") == execute(file_of(world), "SELECT * FROM invoices")
        assert execute(target, "SELECT * FROM refunds") == execute(file_of(world), "SELECT * FROM refunds")

    def test_no_secret_of_the_settings_is_in_it(self, world: World, tmp_path: Path) -> None:
        world.subscribe()
        world.pay(world.sell())
        world.pump()
        settings = world_settings(world.database_url)

        made = back_up(file_of(world), tmp_path / "copy.sqlite", NOW)

        content = made.path.read_bytes()
        assert made.contents.rows["deliveries"] == 1
        assert settings.strike_api_key.encode() not in content
        assert settings.webhook_secret.encode() not in content

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of files to stand for a full disk")
    def test_a_full_disk_is_said_and_leaves_nothing_behind(self, world: World, tmp_path: Path) -> None:
        import resource

        folder = tmp_path / "backups"
        folder.mkdir()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

        try:
            with pytest.raises(StorageUnavailable, match="cannot be used: "):
                run(world, "backup", str(folder))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert os.listdir(folder) == []

    @pytest.mark.skipif(sys.platform != "linux", reason="root may write to every folder but /proc")
    def test_a_folder_that_cannot_be_written_to_is_said(self, world: World) -> None:
        with pytest.raises(StorageUnavailable, match=r"/proc/.* cannot be used: "):
            run(world, "backup", "/proc/copy.sqlite")

    def test_an_empty_database_can_be_saved(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(world, "backup", str(file_of(world).with_name("copy.sqlite"))) == 0

        assert "there is no invoice yet" in capsys.readouterr().out

    def test_it_is_one_file_that_only_its_owner_may_read(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "backups"
        folder.mkdir()

        made = back_up(file_of(world), folder / "copy.sqlite", NOW)

        assert os.listdir(folder) == ["copy.sqlite"]
        assert sys.platform == "win32" or stat.S_IMODE(made.path.stat().st_mode) == 0o600

    def test_a_folder_gets_a_file_with_a_dated_name(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "backups"
        folder.mkdir()

        run(world, "backup", str(folder))

        (name,) = os.listdir(folder)
        assert re.fullmatch(r"lnpay-\d{8}T\d{6}Z\.sqlite", name)

    def test_a_file_is_overwritten_only_by_force(self, world: World, tmp_path: Path) -> None:
        target = tmp_path / "copy.sqlite"
        target.write_text("precious")

        with pytest.raises(Conflict, match="--force"):
            run(world, "backup", str(target))
        assert target.read_text() == "precious"

        run(world, "backup", str(target), "--force")
        assert check_backup(target).rows["invoices"] == 0

    def test_it_is_of_one_moment_while_others_write(self, world: World, tmp_path: Path) -> None:
        """Each transaction adds an invoice and its refund: a copy in between would show one without the other."""
        owe(world)
        file, stop = file_of(world), threading.Event()
        writer = threading.Thread(target=write_pairs, args=(file, stop))
        writer.start()

        try:
            made = [back_up(file, tmp_path / f"{number}.sqlite", NOW) for number in range(5)]
        finally:
            stop.set()
            writer.join()

        seen = [one.contents.rows["invoices"] for one in made]
        assert seen == [one.contents.rows["refunds"] for one in made]
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]

    def test_the_database_goes_on_as_it_was(self, world: World, tmp_path: Path) -> None:
        back_up(file_of(world), tmp_path / "copy.sqlite", NOW)

        invoice = world.sell()

        assert world.invoice(invoice.strike_invoice_id) == invoice
        assert execute(file_of(world), "SELECT * FROM milestones WHERE name = 'copied'") == []

    def test_one_of_tables_that_this_program_does_not_know_can_be_saved(self, world: World, tmp_path: Path) -> None:
        execute(file_of(world), "UPDATE alembic_version SET version_num = '9999'")

        made = back_up(file_of(world), tmp_path / "copy.sqlite", NOW)

        assert made.contents.schema == "9999"

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("nowhere/copy.sqlite", "create it first"),
            ("invoices.sqlite", "the database itself"),
            ("link", "the database itself"),
        ],
    )
    def test_a_place_that_cannot_be_is_said(self, world: World, name: str, error: str) -> None:
        (file_of(world).parent / "link").hardlink_to(file_of(world))

        with pytest.raises(InvalidRequest, match=error):
            run(world, "backup", str(file_of(world).parent / name), "--force")

    def test_a_damaged_database_gives_no_backup(self, world: World, tmp_path: Path) -> None:
        owe(world)
        world.backend.close()
        damage(file_of(world))

        with pytest.raises(InvalidRequest, match="damaged"):
            back_up(file_of(world), tmp_path / "copy.sqlite", NOW)

        assert [one for one in os.listdir(tmp_path) if "copy" in one] == []

    def test_a_database_that_is_missing_is_said_and_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(StorageUnavailable, match="unable to open"):
            back_up(tmp_path / "none.sqlite", tmp_path / "copy.sqlite", NOW)

        assert os.listdir(tmp_path) == []


def write_pairs(file: Path, stop: threading.Event) -> None:
    """Copies of the first invoice and its refund, under new names, two rows in each transaction."""
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        fresh = {
            "invoices": ("correlation_id", "token", "strike_invoice_id"),
            "refunds": ("token", "idempotency_key", "payment_quote_id"),
        }
        rows = {}
        for table in fresh:
            cursor = connection.execute(f"SELECT * FROM {table} WHERE id = 1")  # noqa: S608
            rows[table] = dict(zip([one[0] for one in cursor.description], cursor.fetchone(), strict=True))
        number = 1
        while not stop.is_set():
            number += 1
            connection.execute("BEGIN IMMEDIATE")
            for table, names in fresh.items():
                row = {**rows[table], **dict.fromkeys(names, f"new-{number}"), "id": number}
                if table == "refunds":
                    row["invoice_id"] = number
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", tuple(row.values()))  # noqa: S608
            connection.execute("COMMIT")


def damage(file: Path) -> None:
    """Overwrite the pages in the middle, as a dying disk does."""
    size = file.stat().st_size
    with file.open("r+b") as raw:
        raw.seek(size // 3)
        raw.write(b"\xff" * (size // 3))


@pytest.fixture
def backup(world: World, tmp_path: Path) -> Path:
    """A backup of a world with one order; there is another one by now."""
    world.sell()
    made = back_up(file_of(world), tmp_path / "backup.sqlite", world.backend.clock())
    world.sell()
    return made.path


class TestRestore:
    def test_the_database_is_as_it_was_and_the_one_before_is_kept(
        self, world: World, backup: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.backend.close()

        assert run(world, "restore", str(backup)) == 0

        (aside,) = file_of(world).parent.glob("invoices.sqlite.before-*")
        text = capsys.readouterr().out
        assert f"restored: {file_of(world)} is as it was at 2026-01-01 00:00:00 UTC" in text
        assert f"kept: {aside}" in text
        assert "Refunds may have been sent." in text
        assert execute(file_of(world), "SELECT count(*) FROM invoices") == [(1,)]
        assert execute(aside, "SELECT count(*) FROM invoices") == [(2,)]
        world.restart()
        assert world.sell().amount_sats > 0

    def test_the_backup_stays_as_it_is(self, world: World, backup: Path) -> None:
        content = backup.read_bytes()
        world.backend.close()

        restore(backup, file_of(world), NOW)

        assert backup.read_bytes() == content

    def test_who_may_read_the_database_stays_the_same(self, world: World, backup: Path) -> None:
        world.backend.close()
        file_of(world).chmod(0o640)

        restore(backup, file_of(world), NOW)

        assert stat.S_IMODE(file_of(world).stat().st_mode) == 0o640

    def test_a_machine_without_a_database_gets_one(
        self, world: World, backup: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.backend.close()
        file_of(world).unlink()

        assert run(world, "restore", str(backup)) == 0

        assert "previous database is kept" not in capsys.readouterr().out
        assert sorted(os.listdir(file_of(world).parent)) == ["backup.sqlite", "invoices.sqlite"]

    def test_a_copy_that_another_tool_made_while_nothing_ran_will_do(self, world: World, tmp_path: Path) -> None:
        world.sell()
        world.backend.close()
        shutil.copy(file_of(world), tmp_path / "plain.sqlite")

        contents = restore(tmp_path / "plain.sqlite", file_of(world), NOW).contents

        assert contents.rows["invoices"] == 1
        assert execute(file_of(world), "SELECT name FROM milestones WHERE name = 'copied'") == [("copied",)]

    def test_it_is_refused_while_a_connection_is_open(self, world: World, backup: Path) -> None:
        with pytest.raises(Conflict, match="LNPay is running on this database: stop the server"):
            run(world, "restore", str(backup))

        assert execute(file_of(world), "SELECT count(*) FROM invoices") == [(2,)]

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
    def test_it_is_refused_while_a_server_of_another_process_idles(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
        server = start(folder=tmp_path, PORT=str(port))
        assert server.stdout is not None
        server.stdout.readline()

        saved = start("backup", str(tmp_path / "copy.sqlite"), folder=tmp_path)
        assert (saved.communicate(timeout=60)[1], saved.returncode) == ("", 0)
        refused = start("restore", str(tmp_path / "copy.sqlite"), folder=tmp_path)
        _, error = refused.communicate(timeout=60)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        done = start("restore", str(tmp_path / "copy.sqlite"), folder=tmp_path)
        done.communicate(timeout=60)

        assert (refused.returncode, error.count("\n"), done.returncode) == (1, 1, 0)
        assert "stop the server, the workers and their cron jobs" in error

    def test_one_of_a_newer_program_is_refused(self, world: World, backup: Path) -> None:
        execute(backup, "UPDATE alembic_version SET version_num = '9999'")
        world.backend.close()

        with pytest.raises(SchemaTooNew, match="start the newer LNPay that made it"):
            restore(backup, file_of(world), NOW)

    def test_one_of_an_older_program_is_brought_up_to_date_at_the_next_start(
        self, world: World, tmp_path: Path
    ) -> None:
        from tests.contract.test_upgrade import migrate_to

        old = tmp_path / "old.sqlite"
        migrate_to(f"sqlite:///{old}", "0001")
        world.backend.close()

        assert restore(old, file_of(world), NOW).contents.schema == "0001"

        world.restart()
        assert execute(file_of(world), "SELECT version_num FROM alembic_version") == [(SCHEMA_VERSION,)]

    def test_a_file_that_is_no_backup_is_refused(self, world: World, tmp_path: Path) -> None:
        world.backend.close()
        text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
        text.write_text("no database" * 100)
        execute(other, "CREATE TABLE things (id INTEGER)")

        with pytest.raises(InvalidRequest, match="is damaged or not a database"):
            restore(text, file_of(world), NOW)
        with pytest.raises(InvalidRequest, match="not an LNPay database"):
            restore(other, file_of(world), NOW)
        with pytest.raises(InvalidRequest, match="name a backup"):
            restore(file_of(world), file_of(world), NOW)
        with pytest.raises(StorageUnavailable, match="unable to open"):
            restore(tmp_path / "none", file_of(world), NOW)

    def test_a_damaged_one_is_refused(self, world: World, tmp_path: Path) -> None:
        owe(world)
        good = back_up(file_of(world), tmp_path / "backup.sqlite", NOW).path
        orphaned = tmp_path / "orphaned.sqlite"
        shutil.copy(good, orphaned)
        execute(orphaned, "DELETE FROM invoices")
        damage(good)
        world.backend.close()

        with pytest.raises(InvalidRequest, match="damaged"):
            restore(good, file_of(world), NOW)
        with pytest.raises(InvalidRequest, match="a row refers to a missing one"):
            restore(orphaned, file_of(world), NOW)

    def test_a_destroyed_database_is_replaced_by_force(self, world: World, backup: Path) -> None:
        world.backend.close()
        file_of(world).write_bytes(b"\x00no database\x00" * 500)
        wal = Path(f"{file_of(world)}-wal")
        wal.write_bytes(b"left over")

        with pytest.raises(Conflict, match="stop everything, then use --force"):
            restore(backup, file_of(world), NOW)
        aside = restore(backup, file_of(world), NOW, is_forced=True).aside

        assert aside is not None
        assert aside.read_bytes().startswith(b"\x00no database")
        assert Path(f"{aside}-wal").read_bytes() == b"left over"
        assert not wal.exists()
        world.restart()
        assert world.count_rows() == 1

    def test_a_disk_without_links_keeps_a_copy(
        self, world: World, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("not supported")

        monkeypatch.setattr(os, "link", refuse)
        world.backend.close()

        aside = restore(backup, file_of(world), NOW).aside

        assert aside is not None
        assert execute(aside, "SELECT count(*) FROM invoices") == [(2,)]


class TestPostgres:
    @pytest.fixture
    def postgres(self, postgres_server: str) -> Iterator[str]:
        with fresh_postgres(postgres_server) as url:
            yield url

    @pytest.fixture
    def with_tools(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find_postgres_tools(monkeypatch)

    @pytest.mark.usefixtures("with_tools")
    def test_a_dump_holds_everything_and_can_be_restored(
        self, make_world: object, tmp_path: Path, postgres: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = World.make(tmp_path, database_url=postgres)
        owe(world)
        target = tmp_path / "copy.dump"

        assert run(world, "backup", str(target)) == 0
        assert "It has 1 invoices, 1 refunds" in capsys.readouterr().out
        assert sys.platform == "win32" or stat.S_IMODE(target.stat().st_mode) == 0o600

        world.sell()
        world.backend.close()
        with pytest.raises(InvalidRequest) as told:
            run(world, "restore", str(target))
        command = next(line.strip() for line in str(told.value).splitlines() if "pg_restore" in line)
        subprocess.run(shlex.split(command), check=True)
        assert run(world, "restore", "--mark") == 0
        world.restart()
        assert world.count_rows() == 2
        world.close()

    def test_a_machine_without_its_tools_names_what_to_install(
        self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        world.database_url = "postgresql+psycopg://lnpay:hidden-word@127.0.0.1:1/lnpay"

        with pytest.raises(StorageUnavailable, match="install PostgreSQL's client tools"):
            run(world, "backup", str(tmp_path / "copy.dump"))

    @pytest.mark.usefixtures("with_tools")
    def test_no_password_is_shown(self, world: World, tmp_path: Path) -> None:
        world.database_url = "postgresql+psycopg://lnpay:hidden-word@127.0.0.1:1/lnpay"
        file = tmp_path / "copy.dump"

        with pytest.raises(StorageUnavailable) as failed:
            run(world, "backup", str(file))
        with pytest.raises(StorageUnavailable, match="could not open input file"):
            run(world, "restore", str(file))
        told = restore_command(world.database_url, file)

        assert "hidden-word" not in f"{failed.value}{told}"
        assert '--dbname="postgresql://lnpay@127.0.0.1:1/lnpay"' in told


def test_the_mark_by_hand_needs_no_file(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    owe(world)
    world.backend.close()

    assert run(world, "restore", "--mark") == 0

    assert "are held until you approve them" in capsys.readouterr().out
    repository = Repository(world.database_url)
    with repository.reading() as tx:
        (refund,) = tx.refunds.in_states(["held"], 10)  # type: ignore[list-item]
    repository.close()
    assert refund.state == "held"
