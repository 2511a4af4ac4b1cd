"""Who may import whom: top to bottom and never back up.

main, workers, command lines   config, bootstrap, passes, web, commands: they know all parts
bootstrap, web                 wire the parts; answer HTTP with them
doctor, commands               look at every part from outside; what an operator does with them
backend, passes                the parts of a process, and what it does
use cases                      what LNPay is for
the outside                    repository, strike, rates, and the forms of what is exchanged
the ground                     states, model, money, errors: the standard library and each other
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

GROUND = {
    "lnpay.deliveries.shop_answer",
    "lnpay.domain.states",
    "lnpay.domain.model",
    "lnpay.domain.money",
    "lnpay.domain.errors",
    "lnpay.domain.strike_names",
    "lnpay.domain.strike_time",
    "lnpay.domain.text",
}
OUTSIDE = {
    "lnpay.domain.addresses",
    "lnpay.domain.bech32",
    "lnpay.domain.bolt11",
    "lnpay.runtime.console",
    "lnpay.deliveries.hook",
    "lnpay.domain.events",
    "lnpay.domain.idn",
    "lnpay.runtime.listening",
    "lnpay.runtime.logs",
    "lnpay.http.outgoing",
    "lnpay.runtime.packages",
    "lnpay.web.customer.qr",
    "lnpay.rates.sources",
    "lnpay.rates.prices",
    "lnpay.repository",
    "lnpay.strike.client",
    "lnpay.strike.invoices",
    "lnpay.strike.reading",
    "lnpay.domain.webhook_signature",
}
PROCESS = {"lnpay.runtime.backend", "lnpay.runtime.worker_passes"}
TOP = {"lnpay.runtime.bootstrap", "lnpay.web", "lnpay.doctor", "lnpay.commands"}

SANDBOX_MAY_IMPORT = {"lnpay.domain.money", "lnpay.domain.bolt11", "lnpay.runtime.packages"}
"""It must not share the code it tests."""

WEB_NEVER_IMPORTS = {
    "lnpay.runtime.bootstrap",
    "lnpay.strike.budget",
    "lnpay.runtime.worker_passes",
    "lnpay.rates.sources",
    "lnpay.rates.prices",
    "lnpay.sandbox",
    "lnpay.strike.client",
    "lnpay.invoices.sweep",
}

WEB_MAY_IMPORT_REPOSITORY = {
    "lnpay.web.admin.chart",  # draws sums
    "lnpay.web.admin.filters",  # says what is looked for
    "lnpay.web.admin.pages",  # shows what is found
    "lnpay.web.operations.health",  # tells a schema that is too new from a database that is away
    "lnpay.web.customer.stages",  # reads where many payments stand in one query, past the use cases
    "lnpay.web.customer.status",
}
"""Every other route gets its rows through the backend."""

ONLY_THERE = {
    "flask": {"lnpay.web", "lnpay.sandbox"},
    "werkzeug": {"lnpay.web", "lnpay.sandbox"},
    "sqlalchemy": {"lnpay.repository", "config.settings"},
    "alembic": {"lnpay.repository"},
    "requests": {
        "lnpay.strike.client",
        "lnpay.rates.sources",
        "lnpay.http.outgoing",
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


def name_of(path: Path) -> str:
    """The module in a file: "lnpay.web.api.routes"; a package for its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(name: str) -> str:
    """The part of lnpay that a module belongs to: "lnpay.web" for "lnpay.web.api.routes"."""
    return ".".join(name.split(".")[:2])


FILES = {
    name_of(path): path
    for pattern in ("*.py", "config/*.py", "workers/*.py", "lnpay/**/*.py")
    for path in ROOT.glob(pattern)
}
LNPAY = sorted(name for name in FILES if name.startswith("lnpay."))
SANDBOX = [name for name in LNPAY if name.startswith("lnpay.sandbox")]
WEB = [name for name in LNPAY if name.startswith("lnpay.web.")]
USE_CASES = [name for name in LNPAY if part_of(name) not in GROUND | OUTSIDE | PROCESS | TOP | {"lnpay.sandbox"}]


@cache
def imports(name: str) -> frozenset[str]:
    """Every module that `name` imports, wherever in its file, and for type checkers alone too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            module = node.module or ""
            # `from lnpay.web import api` names a module, `from lnpay.domain.model import Draft` does not.
            found.update(whole if (whole := f"{module}.{alias.name}") in FILES else module for alias in node.names)
    return frozenset(found - {name})


def parts_imported(name: str) -> set[str]:
    """The parts of lnpay that `name` imports, without its own."""
    return {part_of(one) for one in imports(name) if one.startswith("lnpay.")} - {part_of(name)}


def is_under(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_tree_is_what_this_file_thinks() -> None:
    assert {*GROUND, *OUTSIDE, *PROCESS, *TOP} <= FILES.keys()
    assert {"lnpay.invoices.create", "lnpay.invoices.settle", "lnpay.deliveries.send", "lnpay.invoices.sweep"} <= set(
        USE_CASES
    )
    assert "lnpay.domain.states" in imports("lnpay.domain.model")
    assert "lnpay.domain.errors" in imports("lnpay.web.errors")


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_stands_on_the_standard_library(name: str) -> None:
    foreign = {one for one in imports(name) if one.split(".")[0] not in sys.stdlib_module_names}

    assert foreign <= GROUND


@pytest.mark.parametrize("name", [name for name in LNPAY if part_of(name) in OUTSIDE])
def test_the_outside_knows_no_use_case(name: str) -> None:
    assert parts_imported(name) <= GROUND | OUTSIDE


@pytest.mark.parametrize("name", USE_CASES)
def test_a_use_case_knows_no_process_and_no_http(name: str) -> None:
    assert not parts_imported(name) & (PROCESS | TOP | {"lnpay.sandbox"})


@pytest.mark.parametrize("name", sorted(PROCESS))
def test_a_process_does_not_know_who_wires_it(name: str) -> None:
    assert not parts_imported(name) & (TOP | {"lnpay.sandbox"})


@pytest.mark.parametrize("name", LNPAY)
def test_nothing_in_lnpay_knows_settings_workers_or_main(name: str) -> None:
    above = {one for one in imports(name) if one.split(".")[0] in ("config", "workers", "main", "tests", "bench")}

    assert above == set()


@pytest.mark.parametrize("name", WEB)
def test_a_route_reaches_providers_and_rows_through_the_backend(name: str) -> None:
    forbidden = set(WEB_NEVER_IMPORTS)
    if name not in WEB_MAY_IMPORT_REPOSITORY:
        forbidden.add("lnpay.repository")

    assert not parts_imported(name) & forbidden


@pytest.mark.parametrize("name", SANDBOX)
def test_the_sandbox_shares_no_code_that_it_tests(name: str) -> None:
    assert parts_imported(name) <= SANDBOX_MAY_IMPORT


def test_only_main_loads_the_sandbox() -> None:
    users = {
        name
        for name in FILES
        if not is_under(name, {"lnpay.sandbox"}) and any(is_under(one, {"lnpay.sandbox"}) for one in imports(name))
    }

    assert users == {"main"}


@pytest.mark.parametrize("library", sorted(ONLY_THERE))
def test_a_foreign_library_is_met_in_one_place(library: str) -> None:
    users = {name for name in FILES if library in {one.split(".")[0] for one in imports(name)}}

    assert users
    assert {name for name in users if not is_under(name, ONLY_THERE[library])} == set()


ONE_PLACE_SENDS = {"lnpay.http.outgoing"}
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


def test_no_use_case_goes_round_in_circles() -> None:
    graph = {name: {one for one in imports(name) if one in FILES} for name in USE_CASES}

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        for one in graph.get(name, ()):
            walk(one, (*above, name))

    for name in graph:
        walk(name, ())
