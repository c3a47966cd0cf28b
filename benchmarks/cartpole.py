"""What the wrapper adds to a run on real environments."""

from __future__ import annotations

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
_STEPS = 1_000
_AIM_PERCENT = 3
_SEED = 0

Act = Callable[[np.ndarray], np.ndarray]
"""From observations to actions."""


def cartpole_table(runs: int) -> Table:
    """Measure a `DummyVecEnv` of eight `CartPole-v1`, with and without a wrapper.

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
    seconds = {}
    for actor, act in {"random actions": _random_actions(), "SB3's policy": _policy()}.items():
        best = fastest({name: partial(_run, wrap, act) for name, wrap in wraps.items()}, runs)
        seconds[actor] = {name: phases["run"] for name, phases in best.items()}
    rows = []
    for name in wraps:
        added = [100 * (times[name] / times[BARE] - 1) for times in seconds.values()]
        aim = _AIM_PERCENT if name == OURS else None
        shares = [at_most(percent, aim) if name != BARE else "" for percent in added]
        rows.append((name, *shares, *(number(times[name] / _STEPS * 1e6) for times in seconds.values())))
    columns = ("", *(f"{actor}, percent added" for actor in seconds), *(f"{actor}, us a step" for actor in seconds))
    note = (
        f"A real `DummyVecEnv` of {_NUM_ENVS} `CartPole-v1`, stepped by random actions made ahead, and by a new "
        "`PPO` policy's `predict`: time the wrapper adds (the aim in brackets), and microseconds a step of all "
        "environments."
    )
    return Table("CartPole", columns, rows, note)


def _random_actions() -> Act:
    actions = cycle(np.random.default_rng(_SEED).integers(2, size=(_STEPS, _NUM_ENVS)))
    return lambda _: next(actions)


def _policy() -> Act:
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")]), seed=_SEED, device="cpu")
    return lambda obs: model.predict(obs, deterministic=True)[0]


def _run(wrap: Callable[[DummyVecEnv], Any], act: Act) -> Phases:
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")] * _NUM_ENVS)
    venv.seed(_SEED)
    recorded = wrap(venv)
    obs = recorded.reset()
    watch = Stopwatch()
    with watch.phase("run"):
        for _ in range(_STEPS):
            obs = recorded.step(act(obs))[0]
    venv.close()
    return watch.phases
