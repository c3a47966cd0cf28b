"""The viewer's page in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 30


class Page:
    """A browser, and where the viewer is."""

    def __init__(self, driver: Any, url: str, directory: Path) -> None:
        self.driver, self.url, self.directory = driver, url, directory

    def open(self, query: str) -> None:
        self.driver.get(f"{self.url}{query}")
        self.until(lambda: self.script("return document.getElementById('main').dataset.shown"))

    def until(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05).until(lambda _: condition())

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str) -> Any:
        return self.until(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None))

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def query(self) -> str:
        return urlsplit(self.driver.current_url).query

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def rows(self) -> list[int]:
        return list(
            self.script("return [...document.querySelectorAll('tr[data-episode]')].map(r => +r.dataset.episode)")
        )

    def step(self) -> int:
        return int(self.script("return document.querySelector('.player input[type=range]').value"))

    def shown_step(self) -> str:
        """The step whose infos are shown, which come a moment later."""
        return str(self.script("return document.querySelector('.info[data-step]')?.dataset.step ?? ''"))

    def logs(self) -> tuple[list[str], set[str]]:
        """Errors and warnings on the console, and the hosts that were asked, since the last call."""
        entries = self.driver.get_log("browser")
        console = [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return console, {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
