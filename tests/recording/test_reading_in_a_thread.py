"""A thread that only looks at a recorder, while another one records, changes nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper
from vecrollout.testing import EpisodeScript, Scenario

SMALL = spaces.Box(-np.inf, np.inf, (2,), np.float64)
LARGE = spaces.Box(0, 255, (32, 32), np.uint8)


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Threads that take turns at every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def watch(venv: BufferingWrapper, is_over: threading.Event, seen: list[Any]) -> None:
    """Look until it is over; `seen` gets what is wrong, and how often it looked."""
    looks, stepped = 0, 0
    try:
        while not is_over.is_set():
            held, total = venv.held, venv.stepped
            assert stepped <= total, "steps were lost"
            assert 0 <= held <= total, "more is held than was recorded"
            assert venv.n_transitions >= 0
            assert repr(venv).startswith("<BufferingWrapper: num_envs=3, stepped=")
            stepped, looks = total, looks + 1
    except BaseException as error:
        seen.append(error)
    seen.append(looks)


def record(space: Any, seconds: float, options: dict[str, Any]) -> None:
    """Record and pop while a thread watches, and compare everything with what the environments did."""
    scenario = Scenario(
        space=space, episodes=[[EpisodeScript(7)], [EpisodeScript(3), EpisodeScript(1)], [EpisodeScript(50)]]
    )
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), record_infos="none", **options)
    venv.reset()
    is_over, seen = threading.Event(), []
    thread = threading.Thread(target=watch, args=(venv, is_over, seen))
    thread.start()
    numbers: list[list[int]] = [[], [], []]
    try:
        call, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                venv.step(scenario.actions(call))
                call += 1
            popped = [*options.get("sink", ()), *venv.pop_trajectories()[0]]
            options.get("sink", []).clear()
            assert venv.held == 0
            assert venv.stepped == 3 * call == venv.popped + venv.delivered
            for each in popped:
                first = each.rews[0] - 1.5
                assert (each.obs.reshape(len(each.obs), -1)[:, 0] == (first + np.arange(len(each) + 1)) % 256).all()
                assert (each.rews == each.rews[0] + np.arange(len(each))).all()
                numbers[each.episode.env_index].extend(each.acts.tolist())
    finally:
        is_over.set()
        thread.join()
    assert [each for each in seen if isinstance(each, BaseException)] == []
    assert seen[-1] > 0
    actions = np.array([scenario.actions(number) for number in range(call)])
    assert [sorted(each) for each in numbers] == [sorted(column) for column in actions.T.tolist()]


each_kind = pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small rows", "large rows"])


@each_kind
@pytest.mark.parametrize("has_sink", [False, True])
@pytest.mark.usefixtures("often_switching")
def test_a_short_while(space: Any, has_sink: bool) -> None:
    record(space, 0.5, {"sink": []} if has_sink else {})


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("has_sink", [False, True])
def test_a_long_while(space: Any, has_sink: bool) -> None:
    """At the interval at which threads usually take turns."""
    record(space, 8, {"sink": []} if has_sink else {})
