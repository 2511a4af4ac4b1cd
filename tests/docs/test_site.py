"""The documentation as a site: every page is in it, every link leads somewhere, and nothing comes from another host."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from docs.markdown_lists import indent_lists
from tests.docs.pages import PAGES, ROOT

PAGE_NAMES = sorted(page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/"))
LOADING = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does. --quiet would hide warnings from --strict."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=source,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("states.md", "[x](api.md#nowhere)"),
        ("states.md", "[x](nowhere.md)"),
        ("states.md", "[x](../README.md)"),
        ("states.md", "[x](#nowhere)"),
        ("left_out.md", "# A page that the navigation does not name"),
    ],
)
def test_a_broken_link_or_a_page_left_out_fails_the_build(tmp_path: Path, page: str, text: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")

    built = build(tmp_path, tmp_path / "site")

    assert built.returncode == 1
    assert "Aborted with 1 warnings in strict mode" in built.stdout + built.stderr


def test_make_builds_it_in_the_same_way() -> None:
    assert "mkdocs build --strict\n" in (ROOT / "Makefile").read_text("utf-8")


class Loaded(HTMLParser):
    """Collects what a page loads: not its links, which a reader may or may not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if LOADING.get(tag) == name and value]


def test_every_page_is_in_it(site: Path) -> None:
    pages = {page.relative_to(site).with_suffix("").as_posix() for page in site.rglob("*.html")}

    assert pages == {*PAGE_NAMES, "404"}


def test_no_page_names_a_file_of_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text("utf-8"))

        assert loaded.addresses
        assert [one for one in loaded.addresses if urlsplit(one).netloc] == [], page.name
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text("utf-8"), style.name
        assert "url(//" not in style.read_text("utf-8"), style.name


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The address of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_browser_asks_no_other_host(served: str, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGE_NAMES:
        page.goto(f"{served}/{name}.html", wait_until="networkidle")
    page.close()

    assert len(asked) > len(PAGE_NAMES)
    assert [url for url in asked if not url.startswith((f"{served}/", "data:", "blob:"))] == []


class TestLists:
    def test_the_blocks_of_an_item_belong_to_it(self) -> None:
        assert indent_lists("1. One:\n\n       # run\n\n   Then:\n\n   - two\n\n         # walk\n\nEnd.") == (
            "1. One:\n\n        # run\n\n    Then:\n\n    - two\n\n            # walk\n\nEnd."
        )

    def test_a_list_may_follow_a_paragraph(self) -> None:
        assert indent_lists("These:\n- one\n- two") == "These:\n\n- one\n- two"

    @pytest.mark.parametrize("text", ["    - code\n    - code", "```\n- code\n  more\n```", "| a |\n|---|\n| b |"])
    def test_what_is_no_list_stays(self, text: str) -> None:
        assert indent_lists(text) == text

    def test_the_commands_of_a_step_are_code_on_the_site(self, site: Path) -> None:
        page = (site / "operations.html").read_text("utf-8")

        assert page.count("<pre>") > 25
        assert "<p># " not in page
