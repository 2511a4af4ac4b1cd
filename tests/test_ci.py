"""A run of the tests under CI must not pass over a test in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = "import pytest\n\ndef test_one():\n    pytest.skip('no reason')\n\ndef test_two():\n    pass\n"
PASSED = "def test_one():\n    pass\n"


def run_tests(folder: Path, text: str, *arguments: str, ci: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over one file, with this project's hooks."""
    (folder / "test_example.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:cov"]
    return subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={folder}", *arguments, str(folder)],
        env={**os.environ, "CI": ci},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["in one process", "with xdist"])
def test_a_skipped_test_fails_the_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = run_tests(tmp_path, SKIPPED, *arguments, ci="true")

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "FAILED: 1 tests were skipped, and CI is set" in ended.stdout


@pytest.mark.parametrize(("text", "ci"), [(SKIPPED, ""), (SKIPPED, "false"), (PASSED, "true")])
def test_otherwise_it_passes(tmp_path: Path, text: str, ci: str) -> None:
    ended = run_tests(tmp_path, text, ci=ci)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FAILED" not in ended.stdout


def test_make_lets_python_keep_what_it_compiles() -> None:
    """Otherwise every process of the tests compiles what it imports, although others have before it."""
    ended = subprocess.run(
        ["make", "--no-print-directory", "-f", "-", "shown"],  # noqa: S607
        input="include Makefile\nshown:\n\t@echo kept=$$PYTHONDONTWRITEBYTECODE\n",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.stdout == "kept=\n", ended.stderr
