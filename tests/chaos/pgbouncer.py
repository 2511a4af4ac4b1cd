"""PgBouncer with the settings of deploy/cluster, in a separate process."""

from __future__ import annotations

import shutil
import signal
import subprocess
from configparser import ConfigParser
from pathlib import Path

import psycopg

from lnpay.sandbox.server import wait_until
from tests.chaos.postgres import Programs
from tests.scenarios.live import ROOT, free_port

SETTINGS = ROOT / "deploy" / "cluster" / "pgbouncer.ini"


def find_pgbouncer() -> str:
    """Its path. Raises FileNotFoundError when it is missing."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise FileNotFoundError("PgBouncer is missing: apt-get install pgbouncer")
    return found


class PgBouncer:
    """A pooler for the cluster member at a port."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.port = free_port()
        self._program = find_pgbouncer()
        self._programs = programs
        self._folder = folder / "pgbouncer"
        self._folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """LNPay's database, through the pooler."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/lnpay"

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = self._folder.parent / "pgbouncer.log"
        self._process = self._programs.start(self._program, self._folder / "pgbouncer.ini", log=log)
        assert wait_until(self._answers, 10), log.read_text()

    def restart(self) -> None:
        """End it, with all its connections, and start it again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def point_at(self, port: int) -> None:
        """Use the member at `port` from now on, as when a failover tool reconfigures it."""
        settings = ConfigParser(interpolation=None)
        settings.read(SETTINGS)
        settings["databases"]["lnpay"] = f"host=127.0.0.1 port={port} dbname=lnpay user=postgres"
        changes = {"listen_addr": "127.0.0.1", "listen_port": str(self.port), "auth_type": "any", "unix_socket_dir": ""}
        settings["pgbouncer"].update(changes)
        del settings["pgbouncer"]["auth_file"]
        with (self._folder / "pgbouncer.ini").open("w") as file:
            settings.write(file)
        self._programs.give(self._folder)
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
