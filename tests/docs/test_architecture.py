"""docs/architecture.md shows the contracts of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.docs.pages import section

ROOT = Path(__file__).resolve().parents[2]


def layers() -> list[set[str]]:
    """The packages of each layer, highest first, as the contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one.get("containers") == ["lnpay"]]
    return [set(layer.split(" | ")) for layer in contract["layers"]]


def test_the_layers_are_those_of_the_contract() -> None:
    shown = re.findall(r"^\| \d+ \| (.*) \|$", section("Layers"), re.MULTILINE)

    assert [set(re.findall(r"`(\w+)`", packages)) for packages in shown] == layers()


def test_every_package_is_described() -> None:
    shown = re.findall(r"^\| `(\w+)` \|", section("Packages"), re.MULTILINE)

    assert sorted(shown) == sorted(name for layer in layers() for name in layer)
