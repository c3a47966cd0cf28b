"""What the wrapper adds to a run on real environments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.contenders import BARE, IMITATION, OURS
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_NUM_ENVS = 8
_STEPS = 2_000
_AIM_PERCENT = 3
_SEED = 0


def cartpole_table(runs: int) -> Table:
    """Measure the wall time of a `DummyVecEnv` of eight `CartPole-v1`, with and without a wrapper.

    Args:
        runs: Rounds that count.

    Returns:
        Percent of the time without a wrapper that the wrapper adds.
    """
    wraps: dict[str, Callable[[DummyVecEnv], Any]] = {BARE: lambda venv: venv}
    if find_spec("vecrollout"):
        from vecrollout import BufferingWrapper

        wraps[OURS] = BufferingWrapper
    if find_spec("imitation"):
        from imitation.data.wrappers import BufferingWrapper as ImitationBufferingWrapper

        wraps[IMITATION] = ImitationBufferingWrapper
    best = fastest({name: partial(_run, wrap) for name, wrap in wraps.items()}, runs)
    seconds = {name: phases["run"] for name, phases in best.items()}
    rows = []
    for name, total in seconds.items():
        percent = 100 * (total / seconds[BARE] - 1)
        share = "" if name == BARE else at_most(percent, _AIM_PERCENT if name == OURS else None)
        rows.append((name, share, number(total / _STEPS * 1e6)))
    note = (
        f"A real `DummyVecEnv` of {_NUM_ENVS} `CartPole-v1`, random actions, {_STEPS} steps: time the wrapper "
        "adds (the aim in brackets), and microseconds a step of all environments."
    )
    return Table("CartPole", ("", "added, percent", "us a step"), rows, note)


def _run(wrap: Callable[[DummyVecEnv], Any]) -> Phases:
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")] * _NUM_ENVS)
    venv.seed(_SEED)
    recorded = wrap(venv)
    actions = list(np.random.default_rng(_SEED).integers(2, size=(_STEPS, _NUM_ENVS)))
    recorded.reset()
    watch = Stopwatch()
    with watch.phase("run"):
        for step_actions in actions:
            recorded.step(step_actions)
    venv.close()
    return watch.phases
