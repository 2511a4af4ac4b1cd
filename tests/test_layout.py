"""The tree is easy to walk: no import circles, no crowded packages, no long modules."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.sources import FILES, ROOT, imports

LNPAY = {name: path for name, path in FILES.items() if name.split(".")[0] == "lnpay"}

MOST_MODULES = 14
MOST_LINES = 400

GROWS = "lnpay/repository/migrations/versions"
"""One file a release of the schema, never changed: no one reads them side by side."""


def find_circle(graph: dict[str, frozenset[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one repeated at the end; [] when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and those for the type checker count."""
    assert find_circle({name: imports(name) for name in FILES}) == []


def test_an_import_inside_a_function_counts() -> None:
    assert "lnpay.commands.sandbox" in imports("main")


def test_a_circle_would_be_found() -> None:
    graph = {
        "lnpay.a": frozenset({"lnpay.b", "json"}),
        "lnpay.b": frozenset({"lnpay.c"}),
        "lnpay.c": frozenset({"lnpay.a"}),
    }

    assert sorted(set(find_circle(graph))) == ["lnpay.a", "lnpay.b", "lnpay.c"]


def test_no_package_has_many_modules_side_by_side() -> None:
    folders = (path.parent.relative_to(ROOT).as_posix() for path in LNPAY.values() if path.name != "__init__.py")
    counts = Counter(folders)
    del counts[GROWS]

    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_can_be_read_in_one_go(name: str) -> None:
    lines = len(FILES[name].read_text("utf-8").splitlines())

    assert lines <= MOST_LINES, f"{name} has {lines} lines"
