"""The proxies as shipped, each run for real: what the world can reach through them, and what it cannot."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lnpay.sandbox.server import wait_until
from tests.deploy.test_deploy import DEPLOY, tool
from tests.scenarios.live import free_port

PUBLIC = [
    "/webhook", "/lnpay.js", "/checkout/a-token", "/checkout/a-token/status", "/checkout/a-token?lang=de",
    "/refund/a-token", "/static/customer.css", "/invoices/an-id/qr.png", "/invoices/an-id/qr.svg",
    "/api/v1/stores/a/invoices", "/i/an-id", "/i/an-id/BTC-LN?view=modal", "/invoice?id=an-id", "/modal/btcpay.js?v=1",
]  # fmt: skip

FOR_THE_SHOP = ["/generate-invoice", "/invoices/an-id", "/invoices?correlation_id=1001"]
FOR_THE_OPERATOR = [
    "/admin", "/admin/login", "/admin/invoices/an-id", "/api-keys/authorize?permissions=x", "/metrics"
]  # fmt: skip

INSIDE = [
    *FOR_THE_SHOP, *FOR_THE_OPERATOR, "/", "/docs", "/openapi.json", "/healthz", "/readyz", "/webhook/", "/checkout",
    "/api-keys/authorize/x", "//generate-invoice", "/checkout/../generate-invoice", "/checkout/..%2fgenerate-invoice",
    "/static/%2e%2e/generate-invoice", "/refund/../admin", "/generate-invoice/", "/generate-invoice?x=/webhook",
    "/%67enerate-invoice", "/api/v1/../../admin", "/api", "/i/../generate-invoice", "/modal/", "/invoice/",
    "/invoices/an-id/qr.png/../../../generate-invoice",
]  # fmt: skip


TOKEN = "a-very-secret-token"
SECRET_PATHS = [
    f"/checkout/{TOKEN}", f"/checkout/{TOKEN}/status", f"/refund/{TOKEN}", f"/checkout/{TOKEN}?lang=de",
    f"/checkout?token={TOKEN}", f"//checkout/{TOKEN}", f"/%63heckout/{TOKEN}", f"/checkout%2F{TOKEN}",
    f"/CHECKOUT/{TOKEN}", f"/x/../checkout/{TOKEN}", f"/admin/login?next={TOKEN}", f"/nothing/{TOKEN}",
]  # fmt: skip


class Backend(BaseHTTPRequestHandler):
    """Stands for LNPay: answers 200 to everything that gets through."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def backend_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def nginx_command(folder: Path, text: str, port: int) -> list[str]:
    """nginx with the file as shipped but for ports and TLS."""
    site = re.sub(r"listen (\[::\]:)?80;", "", text)
    site = re.sub(r"listen \[::\]:443[^;]*;", "", site)
    site = re.sub(r"listen 443[^;]*;", f"listen 127.0.0.1:{port};", site)
    site = re.sub(r"ssl_\w+ [^;]*;|http2 on;", "", site)
    site = site.replace("/var/log/nginx/", f"{folder}/")
    # The part that leads from http to https would listen on port 80.
    site = re.sub(r"server \{[^{}]*return 301[^{}]*\}", "", site)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary} {site} }}"
    )
    return [tool("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy_command(folder: Path, text: str, port: int) -> list[str]:
    """Caddy with the file as shipped but for its address."""
    site = re.sub(r"^pay\.shop\.example \{", f"http://127.0.0.1:{port} {{", text, flags=re.MULTILINE)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site)
    return [tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


PROXIES = {"nginx.conf": nginx_command, "Caddyfile": caddy_command}


@contextmanager
def running(name: str, folder: Path, backend_port: int, text: str) -> Iterator[int]:
    """Run a proxy in front of the stand-in. Gives its port."""
    port = free_port()
    command = PROXIES[name](folder, text.replace("127.0.0.1:5000", f"127.0.0.1:{backend_port}"), port)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        is_up = wait_until(lambda: process.poll() is not None or status(port, "/webhook") is not None, 30)
        assert is_up and process.poll() is None, process.communicate()[1]  # noqa: PT018 - one thing: it runs
        yield port
    finally:
        process.terminate()
        (folder / "stderr.log").write_bytes(process.communicate(timeout=30)[1])


def send_nonsense(port: int) -> None:
    """A request with a secret address that no server understands."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET /checkout/{TOKEN} HTTP/1.1\r\nHost: a b\r\nBad Header\r\n\r\n".encode())
        connection.recv(65_536)


def status(port: int, path: str, headers: dict[str, str] | None = None) -> int | None:
    """The status of an answer to a path, sent as it stands here; None without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def uncommented(text: str) -> str:
    """The file with every opt-in taken up."""
    lines = [
        re.sub(r"^(\s*)#(?=\S)", r"\1", line) if re.match(r"\s*#[^ ]", line) else line for line in text.splitlines()
    ]
    return "\n".join(
        re.sub(r"^(\s*)#(\s+(allow|deny|proxy_pass|path|remote_ip|import))", r"\1\2", line) for line in lines
    )


@pytest.mark.parametrize("name", PROXIES)
class TestProxiesAsShipped:
    def test_the_world_reaches_what_customers_and_strike_need_and_nothing_else(
        self, name: str, tmp_path: Path, backend_port: int
    ) -> None:
        text = (DEPLOY / "proxy" / name).read_text("utf-8")

        with running(name, tmp_path, backend_port, text) as port:
            answers = {path: status(port, path) for path in (*PUBLIC, *INSIDE)}

        assert {path for path, answer in answers.items() if answer == 200} == set(PUBLIC)

    def test_an_operator_can_publish_the_shops_and_the_operators_paths(
        self, name: str, tmp_path: Path, backend_port: int
    ) -> None:
        text = uncommented((DEPLOY / "proxy" / name).read_text("utf-8"))

        with running(name, tmp_path, backend_port, text) as port:
            answers = {path: status(port, path) for path in (*PUBLIC, *FOR_THE_SHOP, *FOR_THE_OPERATOR, "/docs")}

        assert {path for path, answer in answers.items() if answer != 200} == {"/docs"}

    @pytest.mark.parametrize("is_up", [True, False])
    def test_no_log_has_the_secret_part_of_an_address(
        self, name: str, tmp_path: Path, backend_port: int, is_up: bool
    ) -> None:
        text = (DEPLOY / "proxy" / name).read_text("utf-8")

        with running(name, tmp_path, backend_port if is_up else free_port(), text) as port:
            for path in SECRET_PATHS:
                status(port, path, {"Referer": f"https://pay.shop.example/checkout/{TOKEN}"})
            send_nonsense(port)

        logs = {path.name: path.read_text("utf-8", "replace") for path in tmp_path.glob("*.log")}
        assert {file for file, content in logs.items() if TOKEN in content} == set()
        # The requests are logged all the same.
        assert "".join(logs.values()).count("/checkout") >= 3
