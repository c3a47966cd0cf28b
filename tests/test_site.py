"""The documentation as readers see it: built, and opened in a real browser as wide as a laptop and as a phone."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

pytest.importorskip("selenium")
from browsers import chromium, needs_chromium, width_of

ROOT = Path(__file__).parents[1]
ZENSICAL = Path(sys.executable).with_name("zensical")

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
    pytest.mark.skipif(not ZENSICAL.is_file(), reason='needs Zensical: pip install "vecrollout[docs]"'),
]

# The width of the page, and code that does not fit into its box. Output is no code: its tables need their lines.
CODE = """
const wide = (element) => element.scrollWidth > element.clientWidth;
const code = [...document.querySelectorAll("article pre, article pre > code")];
return {
  width: document.documentElement.scrollWidth,
  code: code.filter((each) => wide(each) && !each.closest(".language-text")).map((each) => each.textContent),
};
"""


class Site(NamedTuple):
    driver: Any
    url: str
    pages: list[str]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("documentation")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", root)
    subprocess.run([ZENSICAL, "build", "--strict"], cwd=root, check=True, capture_output=True, timeout=300)
    pages = sorted(
        page.relative_to(root / "site").parent.as_posix() + "/" for page in (root / "site").rglob("index.html")
    )
    handler = functools.partial(Quiet, directory=root / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with chromium(tmp_path_factory.mktemp("profile")) as driver:
                yield Site(driver, f"http://127.0.0.1:{server.server_port}/", pages)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("width", [1280, 390])
def test_no_code_needs_a_scroll_bar(site: Site, width: int) -> None:
    assert {"./", "tutorial/", "guide/recording/", "reference/recording/"} <= set(site.pages)
    found = {}
    with width_of(site.driver, width):
        for page in site.pages:
            site.driver.get(site.url + page)
            shown = site.driver.execute_script(CODE)
            if shown["width"] > width or shown["code"]:
                found[page] = shown
    assert found == {}


def test_pages_load_nothing_from_other_hosts(site: Site) -> None:
    site.driver.get_log("performance")
    for page in ("", "tutorial/", "reference/recording/"):
        site.driver.get(site.url + page)
    events = [json.loads(entry["message"])["message"] for entry in site.driver.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(site.url).netloc}
