"""Run the sandbox by itself: python -m lnpay.sandbox --port 5001."""

from __future__ import annotations

import argparse
import threading

from lnpay.sandbox.config import ACCOUNTS, SimulatorConfig
from lnpay.sandbox.server import SandboxServer
from lnpay.sandbox.simulator import Simulator


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="lnpay.sandbox", description="Strike, rates, a shop and a wallet.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--seed", type=int, help="make ids and keys repeatable")
    parser.add_argument("--backend", default="http://127.0.0.1:5000", help="where LNPay listens, for the shop")
    parser.add_argument("--currency", default="usd", help="the shop's currency")
    parser.add_argument("--rate-limits", choices=("production", "sandbox", "off"), default="production")
    parser.add_argument(
        "--account", choices=tuple(ACCOUNTS), default="bitcoin", help="us: it cannot issue an invoice in bitcoin"
    )
    options = parser.parse_args(arguments)
    config = SimulatorConfig(
        backend_url=options.backend, shop_currency=options.currency.lower(), rate_limits=options.rate_limits
    )
    config.update(ACCOUNTS[options.account])
    with SandboxServer(Simulator(seed=options.seed, config=config), options.host, options.port) as server:
        print(f"Sandbox: {server.url}  (Strike API: {server.url}/v1)")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("Stopped.")


if __name__ == "__main__":
    main()
