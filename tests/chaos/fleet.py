"""LNPay's programs, restarted when they end, as by a supervisor, and replaced by a newer version."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lnpay.sandbox.server import wait_until
from tests.chaos.proxy import Proxy
from tests.scenarios.live import ROOT, environment, free_port

WORKERS = ("main_worker", "expired_worker", "refund_failure_worker")
KEY = "a-key-of-the-shop-of-these-tests"
RESTART_PAUSE_SECONDS = 2.0
TIME_TO_PAY_SECONDS = 10


@dataclass
class Program:
    """One program under supervision, in the folder `root` of a version."""

    name: str
    arguments: list[str]
    settings: dict[str, str]
    log: Path
    root: Path = ROOT
    process: subprocess.Popen[bytes] | None = None
    is_wanted: bool = True
    ended: Counter[int] = field(default_factory=Counter)
    """Exit codes that this test did not cause."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start it."""
        with self.lock, self.log.open("ab") as output:
            self.is_wanted = True
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments], cwd=self.root, env=self.settings, stdout=output, stderr=output
            )

    def stop(self) -> None:
        """End it with SIGTERM for good."""
        with self.lock:
            self.is_wanted = False
            if self.process is None:
                return
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.process.kill()
                self.process = None

    def kill(self) -> None:
        """Kill it with SIGKILL; its supervisor starts it again."""
        with self.lock:
            assert self.process is not None
            self.process.kill()

    def supervise(self, stopping: threading.Event) -> None:
        """Restart it, after a pause, whenever it ends."""
        while not stopping.wait(0.1):
            process = self.process
            code = process.poll() if process is not None and self.is_wanted else None
            if code is None:
                continue
            self.ended[code] += 1
            stopping.wait(RESTART_PAUSE_SECONDS)
            if self.is_wanted and not stopping.is_set():
                self.start()


class Fleet:
    """Two servers behind a proxy, and the three workers of two machines."""

    def __init__(self, provider_url: str, database_url: str, logs: Path) -> None:
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        ports = [free_port(), free_port()]
        self.proxy = Proxy(ports)

        def make(name: str, arguments: list[str], port: int, host: str = "") -> Program:
            settings = environment(
                provider_url, database_url, port, API_KEYS=KEY, TIME_OFFSET=str(TIME_TO_PAY_SECONDS), LOG_LEVEL="error",
                DB_POOL_SIZE="10", DB_STATEMENT_TIMEOUT="30", TRUSTED_PROXIES="127.0.0.1", WORKER_HOST=host,
            )  # fmt: skip
            return Program(name, arguments, settings, logs / f"{name}.log")

        self.servers = [make(f"server{number}", ["main.py"], port) for number, port in enumerate(ports, 1)]
        self.workers = [
            make(f"{name}{number}", [f"workers/{name}.py", "--watch", "2"], ports[0], f"machine{number}")
            for name in WORKERS
            for number in (1, 2)
        ]

    def start(self) -> None:
        """Start everything, and wait until both servers are ready."""
        self.proxy.start()
        for program in (*self.servers, *self.workers):
            program.start()
            self._run(program.supervise, self._stopping)
        assert wait_until(lambda: all(one.is_ready for one in self.proxy.upstreams), 60)

    def roll(self, newer: Path) -> None:
        """Replace one server after the other, then the workers."""
        for upstream, server in zip(self.proxy.upstreams, self.servers, strict=True):
            self.proxy.drain(upstream)
            server.stop()
            server.root = newer
            server.start()
            self.proxy.restore(upstream)
        for worker in self.workers:
            worker.stop()
            worker.root = newer
            worker.start()

    def kill_server(self) -> None:
        """Kill the first server, and wait until its supervisor has brought it back."""
        self.servers[0].kill()
        time.sleep(1)
        assert wait_until(lambda: self.proxy.upstreams[0].is_ready, 60)

    def stop(self) -> None:
        """End everything."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        self.proxy.stop()
        for program in (*self.servers, *self.workers):
            program.stop()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)
