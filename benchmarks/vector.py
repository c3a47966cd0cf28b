"""What recording adds to a step of a Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from benchmarks.contenders import Bare as BareVecEnv
from benchmarks.contenders import Ours as OursOnVecEnv
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest, ignored_by_gc
from benchmarks.workloads import WORKLOADS, Script, Workload, write_script

_AIM = 1.0
"""Most times the cost of the SB3 path, from `_AIM_ENVS` environments on."""
_AIM_ENVS = 64

_BARE, _OURS, _STATISTICS = "bare", "VectorBufferingWrapper", "RecordEpisodeStatistics"
_COPIES = "copies of the infos"
_SB3_BARE, _SB3_OURS = "bare VecEnv", "BufferingWrapper"
_RECORD = "record"
_BOOL = np.dtype(bool)

VectorStep = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
"""What `VectorEnv.step` returns."""


@dataclass(frozen=True)
class _Case:
    """A recording of one rule."""

    workload: Workload
    mode: AutoresetMode
    info_keys: int
    """Numbers in the info of each environment at each step, with their masks."""

    @property
    def name(self) -> str:
        infos = f", {self.info_keys} infos" if self.info_keys else ""
        return f"{self.workload.name} {self.mode.name.lower()}{infos}"


def _cases() -> list[_Case]:
    cartpole = WORKLOADS["cp1024"]
    workloads = [WORKLOADS["cp8"], WORKLOADS["cp64"], cartpole, replace(cartpole, name="cp4096", num_envs=4096)]
    modes = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
    plain = [_Case(workload, mode, 0) for workload in workloads for mode in modes]
    return plain + [_Case(workload, AutoresetMode.NEXT_STEP, 5) for workload in workloads]


def vector_table(options: Options) -> Table:
    """What recording adds to a step, beside the SB3 path on the same data and Gymnasium's statistics."""
    rows = []
    for case in _cases():
        ns = _measured(case, options)
        ours, statistics = ns[_OURS] - ns[_BARE], ns[_STATISTICS] - ns[_BARE]
        sb3 = ns[_SB3_OURS] - ns[_SB3_BARE]
        aim = _AIM if case.workload.num_envs >= _AIM_ENVS else None
        limit = (sb3 + ns[_COPIES] - ns[_BARE]) / sb3 if case.info_keys else None
        figures = (number(each) for each in (ours, sb3, statistics, ns[_BARE]))
        rows.append((case.name, at_most(ours / sb3, aim, limit), number(ours / statistics), *figures))
    columns = (
        "",
        f"{_OURS} / {_SB3_OURS}",
        f"{_OURS} / {_STATISTICS}",
        *(f"{who} ns" for who in (_OURS, _SB3_OURS, _STATISTICS, _BARE)),
    )
    note = (
        "What recording adds to a step of a Gymnasium vector environment, in multiples of two other costs: of "
        "recording the same data from an SB3 `VecEnv` (with the aim), and of Gymnasium's own wrapper, which keeps "
        "returns and lengths only. Then nanoseconds an environment. The cost of the bare environments is subtracted. "
        "A vector environment's infos are arrays, which are copied; a `VecEnv`'s are dicts, which are kept. With "
        "infos, the limit of the first ratio is the SB3 path with these copies."
    )
    return Table("Vector environments", columns, rows, note)


def _measured(case: _Case, options: Options) -> dict[str, float]:
    script = write_script(case.workload, options.scaled(case.workload.steps))
    steps = _vector_steps(case, script)
    contenders: dict[str, Callable[[], Any]] = {
        _BARE: lambda: _Bare(script, steps, case.mode),
        _OURS: lambda: _Ours(script, steps, case.mode),
        _STATISTICS: lambda: _Statistics(script, steps, case.mode),
        _SB3_BARE: lambda: BareVecEnv(script),
        _SB3_OURS: lambda: OursOnVecEnv(script),
    }
    if case.info_keys:
        contenders[_COPIES] = lambda: _Copies(script, steps, case.mode)

    def once(make: Callable[[], Any]) -> Callable[[], Phases]:
        return lambda: _record(make())

    with ignored_by_gc():
        best = fastest({name: once(make) for name, make in contenders.items()}, options.runs)
    return {name: phases[_RECORD] / script.transitions * 1e9 for name, phases in best.items()}


def _record(contender: Any) -> Phases:
    watch = Stopwatch()
    contender.reset()
    with watch.phase(_RECORD):
        contender.record()
    return watch.phases


def _vector_steps(case: _Case, script: Script) -> list[VectorStep]:
    """The script's steps as `SyncVectorEnv` would return them."""
    num_envs, length = case.workload.num_envs, case.workload.episode_length
    is_dead_possible = case.mode is AutoresetMode.NEXT_STEP
    period = length + is_dead_possible
    offsets = np.arange(num_envs) * period // num_envs
    odd = np.arange(num_envs) % 2 == 1
    steps = []
    for t, (obs, rews, _, _) in enumerate(script.steps):
        phase = (t + offsets) % period
        ends = phase == length - 1
        rews = np.where(phase == length, 0.0, rews.astype(np.float64))
        everyone = np.ones(num_envs, dtype=bool)
        infos: dict[str, Any] = {}
        for i in range(case.info_keys):
            infos |= {f"info_{i}": rews + i, f"_info_{i}": everyone}
        if ends.any() and case.mode is AutoresetMode.SAME_STEP:
            finals = np.full(num_envs, None, dtype=object)
            for env in np.flatnonzero(ends).tolist():
                finals[env] = obs[env].copy()
            infos |= {"final_obs": finals, "_final_obs": ends, "final_info": {}, "_final_info": ends}
        steps.append((obs, rews, ends & ~odd, ends & odd, infos))
    return steps


class _ScriptedVectorEnv(VectorEnv[Any, Any, Any]):
    """Plays steps, over and over: a step costs a copy of the observation and of the infos.

    `SyncVectorEnv` makes these anew, so they come warm from the processor's cache.
    """

    def __init__(self, script: Script, steps: list[VectorStep], mode: AutoresetMode) -> None:
        workload = script.workload
        self.num_envs = workload.num_envs
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = workload.observation_space
        self.single_action_space = workload.action_space
        self.observation_space = batch_space(workload.observation_space, workload.num_envs)
        self.action_space = batch_space(workload.action_space, workload.num_envs)
        self._first_obs = script.first_obs
        self._all_steps = steps
        self._steps: Iterator[VectorStep] = iter(())

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._steps = cycle(self._all_steps)
        return self._first_obs, {}

    def step(self, actions: Any) -> VectorStep:
        obs, rews, terminated, truncated, infos = next(self._steps)
        fresh = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in infos.items()}
        return obs.copy(), rews, terminated, truncated, fresh


class _Bare:
    """No recorder: the environment and the loop, to be subtracted from the others."""

    wrap: ClassVar[Callable[[Any], Any]] = staticmethod(lambda env: env)

    def __init__(self, script: Script, steps: list[VectorStep], mode: AutoresetMode) -> None:
        self.actions = script.actions
        self.env = self.wrap(_ScriptedVectorEnv(script, steps, mode))

    def reset(self) -> None:
        self.env.reset()

    def record(self) -> None:
        step = self.env.step
        for actions in self.actions:
            step(actions)


class _Ours(_Bare):
    @staticmethod
    def wrap(env: Any) -> Any:
        from vecrollout import VectorBufferingWrapper

        return VectorBufferingWrapper(env)


class _Copies(_Bare):
    """What the infos alone cost: a copy of each array. A mask that leaves nobody out is only looked at."""

    def record(self) -> None:
        step, kept = self.env.step, []
        for actions in self.actions:
            infos = step(actions)[-1]
            kept.append({k: each.copy() for k, each in infos.items() if each.dtype is not _BOOL or 0 in each.tobytes()})


class _Statistics(_Bare):
    wrap = staticmethod(RecordEpisodeStatistics)
