"""A PostgreSQL primary and its synchronous standby, from Debian's packages or the wheel, in folders of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg

from lnpay.sandbox.server import wait_until
from tests.scenarios.live import free_port

DEBIAN = Path("/usr/lib/postgresql")
SECONDS = 60.0
"""How long a member may take to start or catch up on a busy machine."""


@dataclass(frozen=True)
class Programs:
    """Where PostgreSQL's programs are, and the user that runs them, because they refuse root; None: this user."""

    folder: Path
    user: str | None

    @classmethod
    def of_debian(cls) -> Programs:
        """Raises FileNotFoundError when the packages are missing."""
        folders = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not folders:
            raise FileNotFoundError("PostgreSQL is missing: apt-get install postgresql")
        return cls(folders[-1].parent, "postgres" if os.getuid() == 0 else None)

    @classmethod
    def of_wheel(cls) -> Programs:
        """Those of the package pgserver, which its own fixture runs as the same user."""
        found = find_spec("pgserver")
        assert found is not None
        assert found.origin is not None
        if os.getuid() == 0:
            from pgserver.utils import ensure_user_exists

            ensure_user_exists("pgserver")
        return cls(Path(found.origin).parent / "pginstall" / "bin", "pgserver" if os.getuid() == 0 else None)

    def give(self, folder: Path) -> None:
        """Give a folder, and what is in it, to the user."""
        if self.user:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, self.user)

    def start(self, *command: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program as the user."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                cwd="/",
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
            )

    def run(self, name: str, *arguments: str | Path, log: Path) -> None:
        """Run one of PostgreSQL's programs to its end."""
        code = self.start(self.folder / name, *arguments, log=log).wait(SECONDS)
        assert code == 0, log.read_text()


@dataclass
class Member:
    """One PostgreSQL server."""

    programs: Programs
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.programs.give(self.folder)
        self.data = self.folder / "data"
        self.log = self.folder.parent / f"{self.folder.name}.log"

    def create(self) -> None:
        """Create an empty one, start it, and make LNPay's database."""
        self.programs.run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", self.data, log=self.log)
        self.start()
        self.execute("CREATE DATABASE lnpay")

    def follow(self, primary: Member) -> None:
        """Become a standby of another member, whose commits wait for this one from then on."""
        address = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        self.programs.run("pg_basebackup", *address, "-D", self.data, "-R", "-c", "fast", log=self.log)
        self.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        assert wait_until(primary.has_synchronous_standby, SECONDS), self.log.read_text()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder),
            "wal_keep_size": "256MB", "shared_buffers": "64MB",
        }  # fmt: skip
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.process = self.programs.start(self.programs.folder / "postgres", "-D", self.data, *arguments, log=self.log)
        assert wait_until(self._answers, SECONDS), self.log.read_text()

    def execute(self, statement: str) -> str:
        """Run a statement. Returns the first value of its result, if any, as text."""
        address = f"postgresql://postgres@127.0.0.1:{self.port}/postgres?connect_timeout=5"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""

    def has_synchronous_standby(self) -> bool:
        """Whether every commit is on another member before it is reported."""
        return self.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')") == "1"

    def kill(self) -> None:
        """Kill the server and every process of it with SIGKILL."""
        if self.process is None:
            return
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)  # it starts no more of them
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            os.kill(one, signal.SIGKILL)
        self.process.wait(SECONDS)
        self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False


class Cluster:
    """A primary and a synchronous standby; each promoted standby is replaced by a new one."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._members = 0
        self.primary = self._member()
        self.standby = self._member()

    def start(self) -> None:
        """Create both."""
        self.primary.create()
        self.standby.follow(self.primary)

    @property
    def url(self) -> str:
        """LNPay's database, at whichever of the two members is the primary."""
        hosts = "&".join(f"host=127.0.0.1:{member.port}" for member in (self.primary, self.standby))
        return f"postgresql+psycopg://postgres@/lnpay?{hosts}&target_session_attrs=read-write"

    def fail_over(self, detection_seconds: float) -> float:
        """Kill the primary and promote the standby. Returns the seconds without a primary.

        detection_seconds: how long a failover tool takes to notice.
        """
        assert self.primary.has_synchronous_standby()
        started = time.monotonic()
        self.primary.kill()
        time.sleep(detection_seconds)
        assert self.standby.execute("SELECT pg_promote(true, 60)") == "True"
        self.primary = self.standby
        return time.monotonic() - started

    def add_standby(self) -> None:
        """Build a new standby of the present primary."""
        self.standby = self._member()
        self.standby.follow(self.primary)

    def stop(self) -> None:
        """End both."""
        for member in (self.standby, self.primary):
            member.kill()

    def _member(self) -> Member:
        self._members += 1
        return Member(self._programs, self._folder / f"postgres{self._members}")
