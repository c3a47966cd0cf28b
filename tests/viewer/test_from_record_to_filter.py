"""From the first command to a new trace, as a user does it: the real command, a shell, and a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import served

pytest.importorskip("selenium")
from viewer_page import Page

from browsers import chromium, needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]

COMMAND = Path(sys.executable).with_name("vecrollout")
VIEW = (str(COMMAND), "view", "--no-browser")


def shell(line: str, directory: Path) -> str:
    """What a line typed into a shell prints."""
    path = os.pathsep.join([str(COMMAND.parent), os.environ["PATH"]])
    ran = subprocess.run(
        line, shell=True, cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    return ran.stdout


def test_record_look_flag_and_filter(tmp_path: Path) -> None:
    record = "vecrollout record CartPole-v1 --policy random --n-envs 4 --episodes 60 --seed 1 --out cartpole"
    assert "episodes      60" in shell(record, tmp_path)
    assert "CartPole-v1" in shell("vecrollout ls", tmp_path)
    assert "20 of 60 trajectories" in shell("vecrollout ls cartpole", tmp_path)
    assert "environment   CartPole-v1" in shell("vecrollout info cartpole", tmp_path)
    everything = json.loads(shell("vecrollout ls cartpole --limit 60 --json", tmp_path))

    with chromium(tmp_path / "profile") as driver:
        with served(tmp_path / "cartpole", VIEW) as url:
            page = Page(driver, url, tmp_path / "cartpole")
            page.open("?")
            page.until(lambda: len(page.all(".chart .main-svg")) >= 4)
            assert page.text("h1") == "CartPole-v1"
            page.press("e")
            page.until(lambda: len(page.rows()) == 50)
            page.find("[data-sort=return_]").click()
            page.until(lambda: page.rows() != list(range(50)))
            best = page.rows()[:3]
            for number in best:
                page.find(f"tr[data-episode='{number}'] .flag").click()
            page.until(lambda: page.find("#export-flagged").text == "Export flagged (3)")
            page.find("#export-flagged").click()
            page.until(lambda: page.text(".command pre"))
            command = page.text(".command pre")
            console, hosts = page.logs()
            assert (console, hosts) == ([], {urlsplit(url).netloc})
            driver.get("about:blank")

        told = shell(command, tmp_path)
        assert "3 trajectories" in told
        chosen = json.loads(shell("vecrollout ls cartpole-selected --json", tmp_path))
        returns = sorted((each["return_"] for each in everything), reverse=True)
        assert sorted((each["return_"] for each in chosen), reverse=True) == returns[:3]
        names = ("recording", "id", "env", "length", "return_", "reset_seed")
        wanted = [{name: everything[number][name] for name in names} for number in sorted(best)]
        assert [{name: each[name] for name in names} for each in chosen] == wanted
        assert "3" in shell("vecrollout replay cartpole-selected", tmp_path)

        for trace, count in (("cartpole", 3), ("cartpole-selected", 0)):
            with served(tmp_path / trace, VIEW) as url:
                page = Page(driver, url, tmp_path / trace)
                page.open("?view=episodes")
                assert page.find("#export-flagged").text == f"Export flagged ({count})", "flags outlive the viewer"
                driver.get("about:blank")
