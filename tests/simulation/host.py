"""The machine that the simulated processes run on: its database files and its network."""

from __future__ import annotations

import io
import logging
import random
import secrets
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

import requests
from sqlalchemy import Engine
from urllib3 import HTTPResponse

import config.delivery
import lnpay.http.outgoing
import lnpay.repository.repository as repository_module
import lnpay.runtime.bootstrap
import lnpay.runtime.worker_passes
import lnpay.web.api.routes
from lnpay.deliveries.send import send_due
from lnpay.domain.errors import LnpayError
from lnpay.rates.prices import Rates
from lnpay.repository import Repository, Transaction
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.transport import WsgiAdapter
from tests.simulation.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.simulation.watch_rows import RowWatch

RAM_DISK = Path("/dev/shm")  # noqa: S108 - only the parent of a folder with a random name

BUSY_TIMEOUT_MS = 1
"""Minimal, because waiting is useless: tasks take turns, so the holder cannot release the lock meanwhile."""

RATE_PATHS = ("/coingecko/", "/coinbase/", "/v1/rates/")


class Disk:
    """A database file that many worlds use one after another, each starting from the same migrated tables."""

    def __init__(self) -> None:
        parent = RAM_DISK if RAM_DISK.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="lnpay-simulation-", dir=parent)
        self.path = Path(self._folder.name) / "invoices.sqlite"
        self._template = Path(self._folder.name) / "template.sqlite"
        repository = Repository(f"sqlite:///{self._template}")
        repository.upgrade()
        with repository.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            )
        repository.close()
        self.engine: Engine = repository_module._create_engine(self.url)
        self.eye: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"sqlite:///{self.path}"

    def renew(self) -> sqlite3.Connection:
        """Start with an empty database. Returns a connection for watching it."""
        self.engine.dispose()
        if self.eye is not None:
            self.eye.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self._template, self.path)
        self.eye = sqlite3.connect(self.path, isolation_level=None)
        self.eye.row_factory = sqlite3.Row
        return self.eye

    def close(self) -> None:
        """Remove the files."""
        self.engine.dispose()
        if self.eye is not None:
            self.eye.close()
        self._folder.cleanup()


class Disks:
    """A disk for each installation, by name; created on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Disk] = {}

    def __getitem__(self, name: str) -> Disk:
        if name not in self._made:
            self._made[name] = Disk()
        return self._made[name]

    def __enter__(self) -> Disks:
        return self

    def __exit__(self, *error: object) -> None:
        for disk in self._made.values():
            disk.close()


class PointedRepository(Repository):
    """The product's repository, with a scheduler point before each BEGIN, and before and after each COMMIT.

    Connections are shared by all processes of the machine; they keep nothing from one transaction to the next.
    """

    host: Host

    def __init__(self, database_url: str, **options: Any) -> None:
        self.disk, self.rows = self.host.of_url[database_url]
        with mock.patch.object(repository_module, "_create_engine", return_value=self.disk.engine):
            super().__init__(database_url, **options)

    def upgrade(self) -> None:
        """Nothing to do: the file is a copy of a migrated one."""

    def close(self) -> None:
        """Nothing to do: the machine keeps the connections."""

    @contextmanager
    def transaction(self, *, is_durable: bool = True) -> Iterator[Transaction]:
        """As the product's."""
        scheduler = self.host.scheduler
        scheduler.point("begin")
        with self.host.locked_now_and_then(self.disk), super().transaction(is_durable=is_durable) as tx:
            yield tx
            if scheduler.is_unlucky(scheduler.chances.crash):
                scheduler.note("before commit")
                scheduler.crash()
        self.rows.check()
        scheduler.point("committed")


class QuietRates(Rates):
    """One refresh at a time, because the process's other tasks would wait for it in threads."""

    host: Host

    def _refresh(self, newer_than: datetime | None = None) -> None:
        with self.host.scheduler.quiet():
            super()._refresh(newer_than)

    def _take_shared(self) -> bool:
        with self.host.scheduler.quiet():
            return super()._take_shared()


class Network(WsgiAdapter):
    """The transport to the simulator, with a scheduler point before and after each call; waiting lets others run."""

    def __init__(self, host: Host, rows: RowWatch) -> None:
        super().__init__(host.simulator.wsgi_app, host)
        self._host = host
        self._rows = rows

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Answer a request as WsgiAdapter does."""
        path = urlsplit(request.url or "").path
        self._host.scheduler.point(f"-> {request.method} {path}")
        self._rows.see_call(request.method or "", path, request.headers.get("idempotency-key"))
        back = "<- /execute" if path.endswith("/execute") else "<-"
        try:
            response = super().send(request, *args, **options)
        except requests.RequestException as error:
            self._host.scheduler.point(f"{back} {type(error).__name__}")
            raise
        content = response.content
        response.raw = HTTPResponse(body=io.BytesIO(content), preload_content=False)  # to be read once more
        self._host.scheduler.point(f"{back} {response.status_code} {_short(content)}")
        return response


class _NoDeadline:
    """Time is virtual here: the transport lets a call take too long."""

    has_met_private = False

    def has_passed(self) -> bool:
        """Never."""
        return False


@contextmanager
def _no_deadline(seconds: float, *, is_public_only: bool = False) -> Iterator[_NoDeadline]:
    yield _NoDeadline()


def _short(content: bytes) -> str:
    text = content[:400].decode(errors="replace")
    for word in ('"code":"', '"state":"'):
        _, found, rest = text.partition(word)
        if found:
            return rest.partition('"')[0]
    return ""


class _Errors(logging.Handler):
    """Collects bugs of the product that it caught and logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, LnpayError) and record.name.startswith("lnpay"):
            cause = error.__class__.__module__
            if not cause.startswith(("sqlalchemy", "sqlite3")) or record.getMessage().startswith("unexpected"):
                self.found.append(error)


class Host:
    """The machines of one world."""

    is_running = False
    """The transport's clock: it advances only when a task waits."""

    def __init__(self, simulator: Simulator, scheduler: Scheduler) -> None:
        self.simulator = simulator
        self.scheduler = scheduler
        self.errors = _Errors()
        self.of_url: dict[str, tuple[Disk, RowWatch]] = {}
        self.session = requests.Session()
        """To the shop."""

    def add(self, disk: Disk, rows: RowWatch) -> None:
        """Add a database of this world, and its watch."""
        self.of_url[disk.url] = (disk, rows)

    def advance(self, seconds: float) -> None:
        """Wait for an answer."""
        self.scheduler.sleep(seconds)

    @contextmanager
    def locked_now_and_then(self, disk: Disk) -> Iterator[None]:
        """Sometimes another process is writing and does not finish."""
        if not self.scheduler.is_unlucky(self.scheduler.chances.locked):
            yield
            return
        self.scheduler.counts["database locked"] += 1
        self.scheduler.note("  database is locked")
        other = sqlite3.connect(disk.path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
        finally:
            other.close()

    @contextmanager
    def in_charge(self, seed: int) -> Iterator[None]:
        """Inside, the product runs on this machine, and all its randomness comes from the seed."""
        chance = random.Random(f"ids {seed}")

        def new_uuid() -> uuid.UUID:
            return uuid.UUID(int=chance.getrandbits(128), version=4)

        def new_token(size: int) -> str:
            return f"{chance.getrandbits(8 * size):0{2 * size}x}"

        state = random.getstate()
        random.seed(seed)
        logger = logging.getLogger("lnpay")
        before = (logger.level, logger.propagate, logger.disabled)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(self.errors)
        PointedRepository.host = QuietRates.host = self
        try:
            with (
                mock.patch.object(repository_module, "BUSY_TIMEOUT_MS", BUSY_TIMEOUT_MS),
                mock.patch.object(lnpay.runtime.bootstrap, "Repository", PointedRepository),
                mock.patch.object(lnpay.runtime.bootstrap, "Rates", QuietRates),
                mock.patch.object(lnpay.runtime.worker_passes, "send_due", partial(send_due, senders=1)),
                mock.patch.object(lnpay.http.outgoing, "call_deadline", _no_deadline),
                mock.patch.object(config.delivery, "pooled_session", return_value=nullcontext(self.session)),
                mock.patch.object(lnpay.web.api.routes, "qr_png", return_value=b""),
                mock.patch.object(uuid, "uuid4", new_uuid),
                mock.patch.object(secrets, "token_hex", new_token),
                mock.patch.object(secrets, "token_urlsafe", new_token),
            ):
                yield
        finally:
            logger.removeHandler(self.errors)
            logger.setLevel(before[0])
            logger.propagate = before[1]
            random.setstate(state)
