"""What the wrapper adds to a run on real environments."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.contenders import BARE, IMITATION, OURS
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_NUM_ENVS = 8
# So many that what a writer does once, and how its thread begins, do not matter.
_STEPS = 5_000
_AIM_PERCENT = 3
_DISK_AIM_PERCENT = 6
_SEED = 0

Act = Callable[[np.ndarray], np.ndarray]
"""From observations to actions."""
Wrap = Callable[[DummyVecEnv, str], Any]
"""Puts a recorder around the environments, which may write to a directory."""

_DISK = "vecrollout on disk"
_CPU, _WALL = "processor", "wall"


def cartpole_table(runs: int) -> Table:
    """Measure a `DummyVecEnv` of eight `CartPole-v1`, with and without a wrapper.

    Args:
        runs: Rounds that count.

    Returns:
        Percent of the time without a wrapper that the wrapper adds.
    """
    wraps: dict[str, Wrap] = {BARE: lambda venv, _: venv}
    if find_spec("vecrollout"):
        from vecrollout import BufferingWrapper, record_traces

        wraps[OURS] = lambda venv, _: BufferingWrapper(venv)
        wraps[_DISK] = record_traces
    if find_spec("imitation"):
        from imitation.data.wrappers import BufferingWrapper as ImitationBufferingWrapper

        wraps[IMITATION] = lambda venv, _: ImitationBufferingWrapper(venv)
    best = {
        actor: fastest({name: partial(_run, wrap, act) for name, wrap in wraps.items()}, runs)
        for actor, act in {"random actions": _random_actions(), "SB3's policy": _policy()}.items()
    }
    rows = []
    for name in wraps:
        cells = []
        for phases in best.values():
            added = {clock: 100 * (phases[name][clock] / phases[BARE][clock] - 1) for clock in (_CPU, _WALL)}
            cells.append(at_most(added[_CPU], _AIM_PERCENT if name == OURS else None))
            cells.append(at_most(added[_WALL], _DISK_AIM_PERCENT if name == _DISK else None))
            cells.append(number(phases[name][_CPU] / _STEPS * 1e6))
        rows.append((name, *cells))
    columns = ("", *(f"{actor}, {figure}" for actor in best for figure in (_CPU, _WALL, "us a step")))
    note = (
        f"A real `DummyVecEnv` of {_NUM_ENVS} `CartPole-v1`, stepped by random actions made ahead, and by a new `PPO` "
        "policy's `predict`. In percent of the time without a wrapper, what the wrapper adds to the time of all "
        "processors and to that on the wall (the aim in brackets); and microseconds of processor time a step of all "
        "environments. On disk everything is written, infos too, by a thread of its own; the time on the wall is up to "
        "the end of `close`."
    )
    return Table("CartPole", columns, rows, note)


def _random_actions() -> Act:
    actions = cycle(np.random.default_rng(_SEED).integers(2, size=(_STEPS, _NUM_ENVS)))
    return lambda _: next(actions)


def _policy() -> Act:
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")]), seed=_SEED, device="cpu")
    return lambda obs: model.predict(obs, deterministic=True)[0]


def _run(wrap: Wrap, act: Act) -> Phases:
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")] * _NUM_ENVS)
    venv.seed(_SEED)
    with tempfile.TemporaryDirectory() as directory:
        recorded = wrap(venv, directory)
        obs = recorded.reset()
        watch = Stopwatch()
        start = time.perf_counter()
        with watch.phase(_CPU):
            for _ in range(_STEPS):
                obs = recorded.step(act(obs))[0]
        recorded.close()
        wall = time.perf_counter() - start
    return {**watch.phases, _WALL: wall}
