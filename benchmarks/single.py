"""Single environments recorded to disk, beside Minari's `DataCollector`."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from benchmarks.contenders import BARE, OURS
from benchmarks.episodes import atari
from benchmarks.report import Table, at_least, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_MINARI = "Minari"
_AIMS = {"CartPole": 50.0, "Atari frames": 20.0}
_STEPS = {"CartPole": 4_000, "Atari frames": 1_000}
_FEW, _MANY = 10, 10_000
_MEASURED = 1_000
"""Episodes of which the time is taken."""


class Frames(gym.Env[np.ndarray, int]):
    """Hands out Atari's frames of 84 x 84, which were made ahead; an episode has 200 steps."""

    observation_space = spaces.Box(0, 255, (84, 84), np.uint8)
    action_space = spaces.Discrete(6)

    def __init__(self, length: int = 200) -> None:
        self._length = length
        self._frames = cycle(atari(2).obs[0][:, 0])
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return next(self._frames).copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return next(self._frames).copy(), 1.0, self._steps == self._length, False, {"lives": 3}


_ENVIRONMENTS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "CartPole": lambda: gym.make("CartPole-v1"),
    "Atari frames": Frames,
}


def single_tables(runs: int) -> list[Table]:
    """Measure what recording adds to a step.

    Args:
        runs: Rounds that count.

    Returns:
        The cost beside Minari's, and how it grows with the number of episodes.
    """
    wraps: dict[str, Callable[[gym.Env[Any, Any], str], gym.Env[Any, Any]]] = {BARE: lambda env, _: env, OURS: _ours}
    if find_spec("minari"):
        wraps[_MINARI] = _minari
    rows = []
    for name, make in _ENVIRONMENTS.items():
        steps = _STEPS[name]
        best = fastest({each: partial(_record, make, wrap, steps) for each, wrap in wraps.items()}, runs)
        bare = best[BARE]["steps"]
        added = {each: (phases["steps"] - bare) / steps * 1e6 for each, phases in best.items() if each != BARE}
        minari = added.get(_MINARI)
        ratio = None if minari is None else minari / added[OURS]
        figures = (added[OURS], minari, bare / steps * 1e6)
        rows.append((name, at_least(ratio, _AIMS[name]), *map(number, figures)))
    columns = ("", "Minari / vecrollout", "vecrollout us", "Minari us", "bare us")
    note = (
        "What recording to disk adds to a step of one environment, resets and ends of episodes included, in "
        "microseconds: `TraceRecordingWrapper`, up to the end of its `close`, and Minari's `DataCollector` without "
        "JPEG, whose `create_dataset` is not counted (the aims in brackets)."
    )
    return [Table("Single environments", columns, rows, note), _growth_table(runs)]


def _growth_table(runs: int) -> Table:
    best = fastest({OURS: _grow}, runs)[OURS]
    few, many = (best[str(episodes)] / _MEASURED * 1e6 for episodes in (_FEW, _MANY))
    note = (
        f"Microseconds an episode of 20 steps, environment included, for {_MEASURED} episodes after so many, until "
        "they are durable."
    )
    columns = ("", "later over first", f"after {_FEW}", f"after {_MANY}")
    return Table("Many episodes", columns, [(OURS, at_most(many / few, 1.0), number(few), number(many))], note)


def _ours(env: gym.Env[Any, Any], directory: str) -> gym.Env[Any, Any]:
    from vecrollout import TraceRecordingWrapper

    return TraceRecordingWrapper(env, directory)


def _minari(env: gym.Env[Any, Any], directory: str) -> gym.Env[Any, Any]:
    from minari import DataCollector

    os.environ["MINARI_DATASETS_PATH"] = directory
    return DataCollector(env, jpeg_encoding=False)


def _record(make: Callable[[], gym.Env[Any, Any]], wrap: Callable[..., gym.Env[Any, Any]], steps: int) -> Phases:
    rng = np.random.default_rng(0)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = wrap(make(), directory)
        actions = rng.integers(2, size=steps)
        env.reset(seed=0)
        with watch.phase("steps"):
            for action in actions:
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
            env.close()
    return watch.phases


def _grow() -> Phases:
    from vecrollout import BufferingEnvWrapper, TraceWriter

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory, TraceWriter(directory) as writer:
        env = BufferingEnvWrapper(Frames(20), error_on_premature_reset=False, sink=writer)

        def play(episodes: int) -> None:
            for _ in range(episodes):
                env.reset()
                for _ in range(20):
                    env.step(0)
            writer.flush()

        play(_FEW)
        with watch.phase(str(_FEW)):
            play(_MEASURED)
        play(_MANY - _FEW - _MEASURED)
        with watch.phase(str(_MANY)):
            play(_MEASURED)
    return watch.phases
