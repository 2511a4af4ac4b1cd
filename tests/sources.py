"""The modules of this project, and what each of them imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def name_of(path: Path) -> str:
    """The module in a file: "lnpay.web.api.routes"; a package for its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(path): path
    for pattern in ("*.py", "config/*.py", "workers/*.py", "lnpay/**/*.py")
    for path in ROOT.glob(pattern)
}


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


def is_under(name: str, packages: set[str]) -> bool:
    """Whether a module is one of these, or inside one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)
