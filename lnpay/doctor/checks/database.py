"""The database: is it there, writable and undamaged, and are its tables of this version?"""

from __future__ import annotations

from collections.abc import Iterator

from lnpay.doctor.check import Check
from lnpay.doctor.findings import (
    Finding,
    cannot_tell,
    fail,
    ok,
    warn,
)
from lnpay.doctor.target import Target
from lnpay.repository.maintenance.inspect import Condition, find_damage
from lnpay.repository.repository import SCHEMA_VERSION

NAMES = ("database", "database_schema", "database_write", "database_wal", "database_commits", "database_integrity",
         "database_rows")  # fmt: skip

FIRST_START = "python main.py creates the tables when it starts"


def _check_database(target: Target) -> Iterator[Finding]:
    condition = target.condition
    if condition.trouble is not None:
        yield fail(NAMES[0], f"{_place(condition)}: {condition.trouble}", _access_advice(condition))
        for name in NAMES[1:]:
            yield cannot_tell(name, "the database cannot be read", "see database")
        return
    yield ok(NAMES[0], f"{_place(condition)} is open")
    yield _schema(condition)
    yield _write(condition)
    yield _wal(condition)
    yield _commits(condition)
    yield _integrity(target)
    yield _rows(target)


def _place(condition: Condition) -> str:
    return "PostgreSQL" if condition.path is None else str(condition.path)


def _access_advice(condition: Condition) -> str:
    if condition.path is None:
        return "check that PostgreSQL runs and accepts the user, password and database in DATABASE_URL"
    if not condition.path.exists():
        return f"if LNPay was never started here: {FIRST_START}. Otherwise DATABASE_URL names the wrong file"
    return "run this as LNPay's user; if you did, give that user access to the file, or restore a backup"


def _schema(condition: Condition) -> Finding:
    name, version = "database_schema", condition.version
    if version == SCHEMA_VERSION:
        return ok(name, f"version {version}")
    if version is None:
        return fail(name, "there are no tables", FIRST_START)
    if condition.serves(SCHEMA_VERSION):
        message = f"version {version} was created by a newer LNPay; this one ({SCHEMA_VERSION}) can still use it"
        return warn(name, message, "finish the upgrade: install the newer LNPay here too")
    if version > SCHEMA_VERSION:
        advice = "install that version, or restore the backup made before the upgrade"
        return fail(name, f"version {version} was created by a newer LNPay; this one needs {SCHEMA_VERSION}", advice)
    advice = "make a backup (python main.py backup FILE), then restart LNPay: it upgrades the tables"
    return fail(name, f"version {version} is older than the {SCHEMA_VERSION} that this LNPay needs", advice)


def _write(condition: Condition) -> Finding:
    name = "database_write"
    if condition.write_trouble is None:
        return ok(name, "it is writable")
    return fail(
        name,
        f"it is not writable: {condition.write_trouble}",
        "run this as LNPay's user; then check the file's owner and permissions, the disk, and which programs have it "
        "open",
    )


def _wal(condition: Condition) -> Finding:
    name = "database_wal"
    if condition.path is None:
        return ok(name, "handled by PostgreSQL")
    if condition.journal_mode == "wal":
        return ok(name, "readers and writers do not block each other")
    return fail(
        name,
        f"its journal is {condition.journal_mode}, not WAL",
        "restart LNPay, which sets it. If it does not stay, the file is on a network drive: move it to a local disk",
    )


def _commits(condition: Condition) -> Finding:
    name = "database_commits"
    if condition.commit_weakness is None:
        return ok(name, "a commit survives a power cut")
    advice = "set fsync = on in PostgreSQL and restart it"
    return fail(name, f"a commit may be lost in a power cut: {condition.commit_weakness}", advice)


def _integrity(target: Target) -> Finding:
    name = "database_integrity"
    damage = find_damage(target.settings.database_url)
    if damage:
        return fail(name, f"the file is damaged: {damage[0]}", "stop LNPay, keep a copy of the file, restore a backup")
    return ok(name, "handled by PostgreSQL" if target.condition.path is None else "SQLite finds no damage")


def _rows(target: Target) -> Finding:
    name = "database_rows"
    if not target.condition.serves(SCHEMA_VERSION):
        return cannot_tell(name, "the tables are not those of this LNPay", "see database_schema")
    unreadable = target.unreadable_rows()
    if unreadable is None:
        return ok(name, "the newest rows of every table, and all that need work, can be read")
    advice = "stop LNPay, make a backup, and repair or restore these rows; until then LNPay skips them"
    return fail(name, unreadable, advice)


CHECKS = (Check(NAMES, _check_database),)
