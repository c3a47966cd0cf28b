"""The viewer in a real browser: Chromium without a window, which selenium drives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gymnasium as gym
import numpy as np
import pytest
from served import served
from traces_to_view import HOSTILE, episode, write

from vecrollout import TraceWriter, record_traces
from vecrollout.cli.environments import KeptFrames

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from viewer_page import Page

from browsers import chromium, needs_chromium, width_of

pytestmark = needs_chromium

LENGTHS = [10 + 7 * number % 40 for number in range(120)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    directory = tmp_path_factory.mktemp("trace")
    trajectories = [episode(number, steps) for number, steps in enumerate(LENGTHS)]
    write(directory, trajectories, metadata={"by": HOSTILE}, env_spec='{"id": "Some-v0"}')
    with chromium(tmp_path_factory.mktemp("profile")) as driver, served(directory) as url:
        yield Page(driver, url, directory)
        # The server need not wait for this page's connections.
        driver.get("about:blank")


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """Fails a test whose page had an error, or asked another host."""
    browser.logs()
    yield browser
    console, hosts = browser.logs()
    assert console == []
    assert hosts <= {urlsplit(browser.url).netloc}


def test_the_overview_opens(page: Page) -> None:
    page.open("?")
    page.until(lambda: len(page.all(".chart .main-svg")) >= 4)
    assert page.text("h1") == "Some-v0"
    assert page.text(".facts dd") == "120"
    page.until(lambda: "obs['position'][0]" in page.text("main"))
    assert page.driver.title == "Some-v0 · vecrollout"


def test_sort(page: Page) -> None:
    page.open("?view=episodes")
    assert page.rows() == list(range(50))
    page.find("[data-sort=return_]").click()
    longest = sorted(range(120), key=lambda number: -LENGTHS[number])
    page.until(lambda: page.rows() == longest[:50])
    page.find("[data-sort=return_]").click()
    page.until(lambda: page.rows() == sorted(range(120), key=LENGTHS.__getitem__)[:50])
    assert page.query() == "view=episodes&sort=return_"
    page.press("n")
    page.until(lambda: page.rows() == sorted(range(120), key=LENGTHS.__getitem__)[50:100])


def test_filter(page: Page) -> None:
    page.open("?view=episodes")
    page.press("/")
    page.press("40")
    expected = [number for number, length in enumerate(LENGTHS) if length >= 40]
    page.until(lambda: page.rows() == expected)
    Select(page.find("select[name=ended_by]")).select_by_visible_text("truncated")
    page.until(lambda: page.rows() == [number for number in expected if number % 4 == 3])
    # The address keeps the filter.
    page.driver.refresh()
    page.until(lambda: page.rows() == [number for number in expected if number % 4 == 3])
    page.find(".filters button").click()
    page.until(lambda: len(page.rows()) == 50)


def test_keys_lead_everywhere(page: Page) -> None:
    page.open("?")
    page.press("e")
    page.until(lambda: len(page.rows()) == 50)
    page.press("j", "j", "j")
    page.press(Keys.ENTER)
    page.until(lambda: page.text("h1") == "Episode 2")
    page.press("]")
    page.until(lambda: page.text("h1") == "Episode 3")
    page.press("[", "[")
    page.until(lambda: page.text("h1") == "Episode 1")
    page.press("?")
    page.until(lambda: "Play, pause" in page.text("dialog[open]"))
    page.press(Keys.ESCAPE)
    page.press("o")
    page.until(lambda: page.text("h1") == "Some-v0")
    page.driver.back()
    page.until(lambda: page.text("h1") == "Episode 1")


def test_a_deep_link(page: Page) -> None:
    page.open("?episode=12&step=8")
    page.until(lambda: page.shown_step() == "8")
    assert page.step() == 8
    assert "at 8" in page.text(".info[data-step]")
    outputs = dict(
        zip([e.text for e in page.all(".names code")], [e.text for e in page.all(".names output")], strict=True)
    )
    assert (outputs["obs['position'][0]"], outputs["obs['position'][1]"], outputs["policy_value"]) == ("8", "-8", "4")
    # The image is of this step: its red is the step's number.
    assert page.script(RED, page.find(".stage img")) == 8


RED = """
const canvas = document.createElement("canvas");
canvas.getContext("2d").drawImage(arguments[0], 0, 0);
return canvas.getContext("2d").getImageData(2, 2, 1, 1).data[0];
"""


class Filmed(gym.Env[Any, Any]):
    """Seven steps an episode. The more steps there were, the redder is the picture."""

    observation_space = gym.spaces.Box(0, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(1, self.steps, np.float32), 1.0, self.steps == 7, False, {}

    def render(self) -> Any:
        picture = np.zeros((12, 16, 3), np.uint8)
        picture[:, :, 0] = red_of(self.steps)
        return picture


def red_of(steps: int) -> int:
    return 20 + 10 * steps


def test_frames_begin_with_the_state_before_the_first_action(browser: Page, tmp_path: Path) -> None:
    # Two fragments of an episode, of four and three steps.
    with record_traces(KeptFrames(Filmed()), tmp_path, max_transitions=4) as env:
        env.reset()
        while not env.step(0)[2]:
            pass
    browser.driver.get("about:blank")  # the page before asks its own server
    browser.logs()
    with served(tmp_path) as url:
        page = Page(browser.driver, url, tmp_path)

        def shows(step: int, state: int) -> None:
            page.until(lambda: page.shown_step() == str(step))
            page.until(lambda: page.script(RED, page.find(".stage img")) == red_of(state))
            assert page.step() == step

        page.open("?episode=0")
        shows(0, 0)
        for step in (1, 2, 3, 4):
            page.press(Keys.ARROW_RIGHT)
            shows(step, step)
        slider = page.find(".player input[type=range]")
        slider.send_keys(Keys.HOME)
        shows(0, 0)
        slider.send_keys(Keys.ARROW_RIGHT)
        shows(1, 1)
        slider.send_keys(Keys.END)
        shows(4, 4)
        page.press(Keys.HOME)
        shows(0, 0)
        page.open("?episode=1&step=2")
        shows(2, 6)
        page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        page.until(lambda: page.shown_step() == "0")
        page.until(lambda: not page.find(".stage img").is_displayed())
        page.press(Keys.ARROW_RIGHT)
        shows(1, 5)
        assert page.find(".stage img").is_displayed()
        page.driver.get("about:blank")
    console, hosts = browser.logs()
    assert console == []
    assert hosts <= {urlsplit(url).netloc}


def test_scrub_and_play(page: Page) -> None:
    page.open("?episode=5")
    last = LENGTHS[5]
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.until(lambda: page.shown_step() == "2")
    page.find(".player input[type=range]").send_keys(Keys.END)
    page.until(lambda: page.shown_step() == str(last))
    assert "no info" in page.text(".info[data-step]")
    Select(page.find(".player select")).select_by_visible_text("120 steps/s")
    page.script("document.activeElement.blur()")
    page.press(Keys.HOME, Keys.SPACE)
    page.until(lambda: page.step() > 3)
    page.until(lambda: page.step() == last)
    assert page.find("#play").get_attribute("aria-label") == "Play"
    page.until(lambda: f"step={last}" in page.query())


def test_the_cursor_is_linked(page: Page) -> None:
    page.open("?episode=7")
    rewards, observations = page.find("[data-group=Rewards]"), page.find("[data-group=Observations]")
    page.until(lambda: len(page.all(".plot .main-svg")) >= 4)
    ActionChains(page.driver).move_to_element(rewards).perform()
    ghost = "[data-group=Observations] .ghost"
    page.until(lambda: page.script(f"return !document.querySelector('{ghost}').hidden"))
    ActionChains(page.driver).move_to_element(observations).click().perform()
    middle = round(LENGTHS[7] / 2)
    page.until(lambda: abs(page.step() - middle) <= 1)
    places = page.script("return [...document.querySelectorAll('.cursor:not(.ghost)')].map(e => e.style.left)")
    assert len(set(places)) == 1


def test_two_episodes_side_by_side(page: Page) -> None:
    page.open("?episode=3")
    page.press("c")
    page.find("#compare-with").send_keys("9", Keys.ENTER)
    page.until(lambda: page.text("h1") == "Episodes 3 and 9")
    left, right = (each.rect for each in page.all("article.episode"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    page.press(Keys.ARROW_RIGHT)
    steps = "return [...document.querySelectorAll('.info[data-step]')].map(e => e.dataset.step)"
    page.until(lambda: page.script(steps) == ["1", "1"])
    assert "compare=9" in page.query()


def test_flag_and_export(page: Page) -> None:
    page.open("?view=episodes")
    page.find("tr[data-episode='4'] .flag").click()
    page.until(lambda: page.find("#export-flagged").text == "Export flagged (1)")
    page.open("?episode=6")
    page.press("f")
    page.until(lambda: page.find(".flag").get_attribute("aria-pressed") == "true")
    page.open("?view=episodes&flagged=1")
    assert page.rows() == [4, 6]
    page.find("#export-flagged").click()
    expected = f"vecrollout filter {page.directory} --episodes 4,6 --out {page.directory}-selected"
    page.until(lambda: page.text(".command pre") == expected)


def test_hostile_text_is_text(page: Page) -> None:
    for query in ("?episode=2", "?view=episodes", "?"):
        page.open(query)
        if query != "?":
            page.until(lambda: HOSTILE[:40] in page.text("main"))
        assert page.script("return document.querySelectorAll('main script, main img[src=x], [onerror]').length") == 0
        assert "broken in" not in page.driver.title


def test_light_and_dark(page: Page) -> None:
    page.open("?")
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = page.script(ground)
    page.press("t")
    page.until(lambda: page.script(ground) != before)
    chosen = page.script(ground)
    page.open("?view=episodes")
    assert page.script(ground) == chosen
    page.press("t")
    page.until(lambda: page.script(ground) == before)


@pytest.mark.parametrize("query", ["?", "?view=episodes", "?episode=12&step=8", "?episode=1&compare=2"])
def test_a_phone_needs_no_scrolling_to_the_side(page: Page, query: str) -> None:
    with width_of(page.driver, 390):
        page.open(query)
        page.until(lambda: page.all(".main-svg") or query == "?view=episodes")
        assert page.script("return document.documentElement.scrollWidth") == 390


def test_the_live_tail(page: Page) -> None:
    page.open("?view=episodes&descending=1")
    before = page.rows()[0]
    with TraceWriter(page.directory) as writer:
        # As another process does it, while the page is open.
        writer.append(episode(500, 11, infos=None))
        writer.flush()
        page.until(lambda: page.rows()[0] == before + 1)
        page.until(lambda: page.find("#live").is_displayed())
    page.open("?")
    page.until(lambda: page.text(".facts dd") == str(before + 2))


def test_the_page_cannot_reach_another_host(browser: Page) -> None:
    browser.open("?")
    code = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), () => done('refused'))"
    assert browser.driver.execute_async_script(code) == "refused"
    console, _ = browser.logs()
    assert any("Content Security Policy" in message for message in console)
