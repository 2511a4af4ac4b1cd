"""A foreign library is met in one place, and every outgoing call is made in one place."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.sources import FILES, ROOT, imports, is_under

ONLY_THERE = {
    "flask": {"lnpay.web", "lnpay.sandbox"},
    "werkzeug": {"lnpay.web", "lnpay.sandbox"},
    "sqlalchemy": {"lnpay.repository", "config.values"},
    "alembic": {"lnpay.repository"},
    "requests": {
        "lnpay.strike.client",
        "lnpay.strike.failures",
        "lnpay.rates.sources",
        "lnpay.http",
        "lnpay.runtime.bootstrap",
        "lnpay.sandbox",
        "lnpay.doctor.http_probe",
        "config.delivery",
    },
    "waitress": {"lnpay.web.serving"},
    "prometheus_client": {"lnpay.web.operations.metrics"},
    "dotenv": {"config.sources"},
}
"""A foreign library is met in one place, and translated there."""


def test_one_command_loads_the_sandbox() -> None:
    users = {
        name
        for name in FILES
        if not is_under(name, {"lnpay.sandbox"}) and any(is_under(one, {"lnpay.sandbox"}) for one in imports(name))
    }

    assert users == {"lnpay.commands.sandbox"}


@pytest.mark.parametrize("name", ["main", "webhook_settings", "workers.main_worker"])
def test_a_program_of_production_does_not_load_the_sandbox(name: str) -> None:
    program = f"import sys, {name}; print([one for one in sys.modules if one.startswith('lnpay.sandbox')])"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("library", sorted(ONLY_THERE))
def test_a_foreign_library_is_met_in_one_place(library: str) -> None:
    users = {name for name in FILES if library in {one.split(".")[0] for one in imports(name)}}

    assert users
    assert {name for name in users if not is_under(name, ONLY_THERE[library])} == set()


ONE_PLACE_SENDS = {"lnpay.http.outgoing", "lnpay.http.connections"}
"""Total deadlines, size limits and the login that is sent hold for every outgoing call, because one place makes it."""

SENDING_MODULES = {"urllib.request", "http.client", "urllib3.connection", "urllib3.poolmanager", "requests.adapters"}
SENDING_NAMES = {"get", "post", "put", "patch", "delete", "head", "options", "request", "send"}
NEVER_OF_REQUESTS = SENDING_NAMES | {"session", "adapters", "api", "sessions"}


def sending_lines(tree: ast.AST) -> set[str]:
    """Where a module could make an HTTP call: by a function of requests, by a session, or by a session of its own."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            is_session = owner.split(".")[-1].endswith("session")
            if (owner == "requests" and node.attr in NEVER_OF_REQUESTS) or (is_session and node.attr in SENDING_NAMES):
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("requests.Session", "Session"):
            found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("name", [name for name in FILES if not is_under(name, {"lnpay.sandbox", *ONE_PLACE_SENDS})])
def test_every_outgoing_call_is_made_in_one_place(name: str) -> None:
    tree = ast.parse(FILES[name].read_text("utf-8"))
    from_requests = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "requests"
        for alias in node.names
    }

    assert sending_lines(tree) == set()
    assert from_requests == set()
    assert imports(name) & SENDING_MODULES == set()


@pytest.mark.parametrize(
    "line",
    [
        "requests.get(url)",
        "requests.Session()",
        "self._session.request('GET', url)",
        "session.post(url)",
        "requests.adapters.HTTPAdapter()",
    ],
)
def test_a_call_made_elsewhere_would_be_found(line: str) -> None:
    assert sending_lines(ast.parse(line))
