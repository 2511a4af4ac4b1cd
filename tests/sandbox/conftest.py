"""A simulator with a frozen clock, reached inside the process or over a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from lnpay.sandbox import (
    SandboxServer,
    Simulator,
    VirtualClock,
    WsgiAdapter,
)
from tests.sandbox.strike_client import Client


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(clock=VirtualClock(running=False), seed=7)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def strike(simulator: Simulator, session: requests.Session) -> Client:
    """The simulator inside the process."""
    session.mount("http://strike.test", WsgiAdapter(simulator.wsgi_app, simulator.clock))
    return Client(simulator, session, "http://strike.test")


@pytest.fixture
def strike_over_http(simulator: Simulator, session: requests.Session) -> Iterator[Client]:
    """The simulator behind a real socket, its webhook thread running."""
    with SandboxServer(simulator) as server:
        yield Client(simulator, session, server.url)
        session.close()
