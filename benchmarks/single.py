"""Single environments recorded to disk, beside Minari's `DataCollector`."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from benchmarks import bare_arrow
from benchmarks.contenders import BARE, OURS
from benchmarks.episodes import Episodes, atari
from benchmarks.options import Options
from benchmarks.report import Table, at_least, at_most, number, ratio
from benchmarks.timing import Phases, Stopwatch, fastest

_MINARI, _FLOOR, _UNFLUSHED = "Minari", "rows and pyarrow", "vecrollout unflushed"
_AIMS = {"CartPole": 50.0, "Frames": 7.0}
_STEPS = {"CartPole": 20_000, "Frames": 5_000}
_FEW, _MANY = 10, 10_000
_MEASURED = 1_000
"""Episodes of which the time is taken."""
_GROWTH_AIM = 1.1

Wrap = Callable[[gym.Env[Any, Any], str], gym.Env[Any, Any]]
"""Puts a recorder around an environment, which writes to a directory."""


class Frames(gym.Env[np.ndarray, int]):
    """Hands out frames of 84 x 84 that were made ahead; an episode has 200 steps unless another length is given."""

    observation_space = spaces.Box(0, 255, (84, 84), np.uint8)
    action_space = spaces.Discrete(6)

    def __init__(self, length: int = 200) -> None:
        self._length = length
        self._frames = cycle(_frames())
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return next(self._frames).copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return next(self._frames).copy(), 1.0, self._steps == self._length, False, {"lives": 3}


@lru_cache
def _frames() -> np.ndarray:
    return atari(1, 500).obs[0][:, 0]


class _Floor(gym.Wrapper[Any, Any, Any, Any]):
    """The least that it can cost: a row a column in memory, written by pyarrow when the environment closes."""

    def __init__(self, env: gym.Env[Any, Any], directory: str, steps: int) -> None:
        super().__init__(env)
        self._path = Path(directory) / "floor.arrow"
        space: Any = env.observation_space
        self._obs = np.empty((steps + 1, *space.shape), space.dtype)
        self._acts, self._rews = np.empty(steps, np.int64), np.empty(steps)
        self._step = 0

    def step(self, action: Any) -> Any:
        returned = obs, reward, *_ = self.env.step(action)
        step = self._step
        self._acts[step] = action
        self._rews[step] = reward
        self._obs[step + 1] = obs
        self._step = step + 1
        return returned

    def close(self) -> None:
        bare_arrow.write(Episodes([self._obs], [self._acts], [self._rews]), self._path, "zstd")
        super().close()


_ENVIRONMENTS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "CartPole": lambda: gym.make("CartPole-v1"),
    "Frames": Frames,
}


def single_tables(options: Options) -> list[Table]:
    """What recording one environment adds to a step beside Minari, and whether many episodes make it dearer."""
    rows = []
    for name, make in _ENVIRONMENTS.items():
        steps = options.scaled(_STEPS[name])
        wraps: dict[str, Wrap] = {BARE: lambda env, _: env, OURS: _ours, _UNFLUSHED: _unflushed}
        wraps[_FLOOR] = partial(_Floor, steps=steps)
        if find_spec("minari"):
            wraps[_MINARI] = _minari
        best = fastest({each: partial(_record, make, wrap, steps) for each, wrap in wraps.items()}, options.runs)
        us = {each: phases["steps"] / steps * 1e6 for each, phases in best.items()}
        added = {each: figure - us[BARE] for each, figure in us.items()}
        ours, floor, minari = added[OURS], added[_FLOOR], added.get(_MINARI)
        cell = at_least(ratio(minari, ours), _AIMS[name], ratio(minari, floor))
        rows.append((name, cell, *map(number, (ours, added[_UNFLUSHED], minari, floor, us[BARE]))))
    columns = ("", "Minari / vecrollout", *(f"{who} us" for who in (OURS, _UNFLUSHED, _MINARI, _FLOOR, BARE)))
    note = (
        "What recording to disk adds to a step of one environment, resets and ends of episodes included, in "
        "microseconds of processor time: `TraceRecordingWrapper`, up to the end of its `close`, and Minari's "
        "`DataCollector` without JPEG, whose `create_dataset` does not count. Unflushed is with `flush_every_s=None`: "
        "the difference is the price of episodes that are durable within a second. The limit is what row writes and a "
        "file of bare pyarrow would reach."
    )
    return [Table("Single environments", columns, rows, note), _growth_table(options)]


def _growth_table(options: Options) -> Table:
    measured, many = options.scaled(_MEASURED), options.scaled(_MANY, 100)
    best = fastest({OURS: partial(_grow, measured, many)}, options.runs)[OURS]
    early, late = (best[phase] / measured * 1e6 for phase in ("early", "late"))
    note = (
        f"Microseconds an episode of 20 steps, environment included, for {measured:,} episodes after so many, until "
        "they are durable."
    )
    columns = ("", "late over early", f"after {_FEW}", f"after {many - measured:,}")
    return Table(
        "Many episodes", columns, [(OURS, at_most(late / early, _GROWTH_AIM), number(early), number(late))], note
    )


def _ours(env: gym.Env[Any, Any], directory: str) -> gym.Env[Any, Any]:
    from vecrollout import TraceRecordingWrapper

    return TraceRecordingWrapper(env, directory)


def _unflushed(env: gym.Env[Any, Any], directory: str) -> gym.Env[Any, Any]:
    from vecrollout import TraceRecordingWrapper

    return TraceRecordingWrapper(env, directory, flush_every_s=None)


def _minari(env: gym.Env[Any, Any], directory: str) -> gym.Env[Any, Any]:
    from minari import DataCollector

    os.environ["MINARI_DATASETS_PATH"] = directory
    return DataCollector(env, jpeg_encoding=False)


def _record(make: Callable[[], gym.Env[Any, Any]], wrap: Wrap, steps: int) -> Phases:
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


def _grow(measured: int, many: int) -> Phases:
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
        with watch.phase("early"):
            play(measured)
        play(many - _FEW - 2 * measured)
        with watch.phase("late"):
            play(measured)
    return watch.phases
