"""The files of deploy/cluster: their form, what they publish, where secrets are, and the balancer for real."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from lnpay.sandbox.server import wait_until
from tests.deploy.test_deploy import DEPLOY, ROOT, check, tool
from tests.scenarios.live import free_port

CLUSTER = DEPLOY / "cluster"
WORKERS = ("main", "expired", "refund")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    whole = yaml.safe_load((CLUSTER / "compose.yaml").read_text("utf-8"))
    return dict(whole["services"])


def test_compose_knows_every_key() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", CLUSTER / "compose.yaml")


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    check("hadolint", CLUSTER / "Dockerfile")


@pytest.mark.parametrize("script", sorted(path.name for path in CLUSTER.glob("*.sh")))
def test_each_script_is_one_that_sh_takes(script: str) -> None:
    check("sh", "-n", CLUSTER / script)


def test_both_machines_run_the_same(services: dict[str, dict[str, Any]]) -> None:
    assert services["server1"] == services["server2"]
    for name in WORKERS:
        first, second = services[f"{name}1"], services[f"{name}2"]
        assert {**first, "hostname": ""} == {**second, "hostname": ""}
        assert (first["hostname"], second["hostname"]) == ("machine1", "machine2")
        assert (ROOT / first["entrypoint"][1]).is_file()
        shared = ("image", "env_file", "environment", "volumes")
        assert {key: first[key] for key in shared} == {key: services["server1"][key] for key in shared}


def test_only_the_balancer_is_published_and_only_to_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert published == {"balancer": ["127.0.0.1:5000:5000"]}


def test_every_secret_comes_from_a_file_that_git_ignores(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert not [key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|KEY|URL", key)], name
    files = {file["path"] for service in services.values() for file in service.get("env_file", ())}
    assert files == {"../../config/.env", "lnpay.env", "postgres.env"}
    assert {"config/.env", "deploy/cluster/*.env"} <= set((ROOT / ".gitignore").read_text("utf-8").splitlines())
    database = [
        name for name, one in services.items() if {"path": "postgres.env", "format": "raw"} in one.get("env_file", ())
    ]
    assert sorted(database) == ["pgbouncer1", "pgbouncer2", "postgres1", "postgres2"]


def test_patroni_promotes_only_a_standby_that_has_every_commit() -> None:
    patroni = yaml.safe_load((CLUSTER / "patroni.yml").read_text("utf-8"))

    assert patroni["bootstrap"]["dcs"]["synchronous_mode"] is True
    assert "password" not in str(patroni["postgresql"]).lower()


def test_a_new_standby_does_not_wait_for_the_next_checkpoint() -> None:
    patroni = yaml.safe_load((CLUSTER / "patroni.yml").read_text("utf-8"))

    assert {"checkpoint": "fast"} in patroni["postgresql"]["basebackup"]


def test_no_container_is_in_the_network_of_another_that_may_restart(services: dict[str, dict[str, Any]]) -> None:
    assert not [name for name, service in services.items() if "network_mode" in service]


def test_each_pgbouncer_and_its_postgresql_know_each_other(services: dict[str, dict[str, Any]]) -> None:
    example = (CLUSTER / "lnpay.env.example").read_text("utf-8")
    for number in "12":
        assert services[f"pgbouncer{number}"]["environment"] == {"POSTGRES_ADDRESS": f"postgres{number}"}
        assert services[f"postgres{number}"]["environment"] == {"PGBOUNCER_ADDRESS": f"pgbouncer{number}"}
        assert f"host=pgbouncer{number}:6432" in example


def test_compose_builds_every_image_that_it_does_not_pull(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert ("build" in service) == service["image"].startswith("lnpay"), name


def test_the_image_has_every_script_that_patroni_calls() -> None:
    patroni = yaml.safe_load((CLUSTER / "patroni.yml").read_text("utf-8"))
    copied = dict(
        re.findall(r"^COPY --chmod=0755 (\S+) (\S+)$", (CLUSTER / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    )

    assert {patroni["bootstrap"]["post_bootstrap"], *patroni["postgresql"]["callbacks"].values()} <= set(
        copied.values()
    )
    assert all((CLUSTER / source).is_file() for source in copied)


def test_pgbouncer_connects_again_after_each_change_of_role() -> None:
    """It tells every client what PostgreSQL was at its first connection: a standby, or one that takes writes."""
    patroni = yaml.safe_load((CLUSTER / "patroni.yml").read_text("utf-8"))
    pooler = ConfigParser(interpolation=None)
    pooler.read(CLUSTER / "pgbouncer.ini")

    assert set(patroni["postgresql"]["callbacks"]) == {"on_start", "on_role_change"}
    assert pooler["pgbouncer"]["admin_users"] == "lnpay"


@contextmanager
def stub_server(status: int) -> Iterator[int]:
    """A server whose /readyz answers `status`, and which says its port to every other request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 200)
            self.end_headers()
            self.wfile.write(str(self.server.server_port).encode())  # type: ignore[attr-defined]

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_the_balancer_sends_nothing_to_a_server_that_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        unready, ready = (stack.enter_context(stub_server(status)) for status in (503, 200))
        text = (CLUSTER / "Caddyfile").read_text("utf-8").replace("\n:5000 {", f"\nhttp://127.0.0.1:{port} {{")
        text = text.replace("server1:5000", f"127.0.0.1:{unready}").replace("server2:5000", f"127.0.0.1:{ready}")
        (tmp_path / "Caddyfile").write_text(text.replace("admin off", "admin off\n\tauto_https off"))
        command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
        environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        balancer = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        stack.callback(balancer.wait, 20)
        stack.callback(balancer.terminate)

        def answers() -> set[str]:
            try:
                return {requests.get(f"http://127.0.0.1:{port}/x", timeout=10).text for _ in range(6)}
            except requests.RequestException:
                return set()

        assert wait_until(lambda: answers() == {str(ready)}, 30)
