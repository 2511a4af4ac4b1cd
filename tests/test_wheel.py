"""LNPay as a package: a wheel, installed into a new environment, sells and is paid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lnpay.runtime import version as version_module
from lnpay.sandbox.server import wait_until
from tests.first_sale import sell_and_pay
from tests.sandbox_process import ROOT, RunningSandbox, free_ports, is_up

FILES = ("main.py", "webhook_settings.py", "key_generator.py", "pyproject.toml", "requirements.txt", "LICENSE")


def pip(python: Path, *arguments: str) -> None:
    """Run pip; skips the test where it reaches neither a registry nor its cache."""
    done = subprocess.run([str(python), "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if "NewConnectionError" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip("pip reaches neither a registry nor its cache")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the environment's folders are those of other systems")
def test_an_installed_wheel_sells_an_order_in_its_sandbox(tmp_path: Path) -> None:
    source, wheels, home = tmp_path / "source", tmp_path / "wheels", tmp_path / "home"
    for part in ("lnpay", "config", "workers"):
        leave_out = shutil.ignore_patterns("__pycache__", ".env", "local")
        shutil.copytree(ROOT / part, source / part, ignore=leave_out)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(source))
    shutil.rmtree(source)
    (wheel,) = wheels.iterdir()
    pip(python, "install", str(wheel))

    lnpay, port = python.with_name("lnpay"), free_ports(2)
    sandbox = RunningSandbox(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    environ = {"PATH": os.environ["PATH"], "PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(lnpay), "sandbox"], cwd=home, env=environ, stdout=log, stderr=log)
        try:
            assert wait_until(lambda: process.poll() is not None or is_up(sandbox.url), 60), (
                tmp_path / "log"
            ).read_text()
            sell_and_pay(sandbox)
            assert "</html>" in requests.get(f"{sandbox.url}/docs", timeout=30).text
        finally:
            process.terminate()
            process.wait(60)

    assert process.returncode == 0
    assert [path.name for path in home.glob("*.sqlite")] == [f"sandbox-{port}.sqlite"]
    refused = subprocess.run([str(lnpay), "serve"], cwd=home, env=environ, capture_output=True, text=True, check=False)
    assert (refused.returncode, "STRIKE_API_KEY is missing" in refused.stderr) == (1, True)


def test_without_a_checkout_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(version_module, "__file__", str(tmp_path / "lnpay" / "runtime" / "version.py"))
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 9.9")

    assert version_module.version.__wrapped__() == "lnpay 9.9"
