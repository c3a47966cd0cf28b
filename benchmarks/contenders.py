"""Who is measured: every recorder behind the same few methods.

A contender is opened on a script, which is not timed, and then records it, which is. The loop is written out in every
class so that no contender pays for a call that the others do without.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from benchmarks.workloads import Obs, Script, ScriptedVecEnv, item_shape

OURS = "vecrollout"
IMITATION = "imitation"
SB3 = "SB3"
CPPRB = "cpprb"
FLOOR = "row writes"
LIMIT = "row writes and infos"
BARE = "bare"

_LARGE_BYTES = 1024
"""Trajectories of observations of this size are views."""


class Bare:
    """No recorder: the environment and the loop, to be subtracted from the others."""

    name: ClassVar[str] = BARE
    package: ClassVar[str] = "stable_baselines3"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.venv: Any = ScriptedVecEnv(script)
        self.first_obs: Obs = None

    def reset(self) -> None:
        """Start the script over."""
        self.first_obs = self.venv.reset()

    def record(self) -> None:
        """Play the whole script."""
        step = self.venv.step
        for actions in self.script.actions:
            step(actions)


class Wrapper(Bare):
    """A `VecEnvWrapper` that records what passes."""

    def pop_transitions(self) -> Any:
        """Take out everything as transitions."""
        return self.venv.pop_transitions()

    def pop_trajectories(self) -> Any:
        """Take out everything as trajectories."""
        return self.venv.pop_trajectories()


class Ours(Wrapper):
    """The wrapper of this package. The scripted environments return new infos, as SB3's own do."""

    name = OURS
    package = "vecrollout"

    def __init__(self, script: Script) -> None:
        import vecrollout

        super().__init__(script)
        # The earlier version, which has no such option, finds out by itself.
        options = {"copy_infos": False} if hasattr(vecrollout, "TrajectoryBatch") else {}
        self.venv = vecrollout.BufferingWrapper(self.venv, **options)


class Imitation(Wrapper):
    """The wrapper of imitation 1.0.1."""

    name = IMITATION
    package = "imitation"

    def __init__(self, script: Script) -> None:
        from imitation.data.wrappers import BufferingWrapper

        super().__init__(script)
        self.venv = BufferingWrapper(self.venv)


class Sb3(Bare):
    """`ReplayBuffer.add` alone.

    An SB3 algorithm also puts the terminal observations in place of the reset ones first, which is not timed here.
    """

    name = SB3
    package = "stable_baselines3"

    def __init__(self, script: Script) -> None:
        from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

        super().__init__(script)
        workload = script.workload
        make: Any = DictReplayBuffer if isinstance(workload.observation_space, spaces.Dict) else ReplayBuffer
        self.buffer = make(
            script.transitions,
            workload.observation_space,
            workload.action_space,
            device="cpu",
            n_envs=workload.num_envs,
            handle_timeout_termination=True,
        )

    def record(self) -> None:
        """Play and add the whole script."""
        step, add = self.venv.step, self.buffer.add
        obs = self.first_obs
        for actions in self.script.actions:
            next_obs, rews, dones, infos = step(actions)
            add(obs, next_obs, actions, rews, dones, infos)
            obs = next_obs


class Cpprb(Bare):
    """`cpprb.ReplayBuffer.add` alone; it keeps no infos and, here too, is not given the terminal observations."""

    name = CPPRB
    package = "cpprb"

    def __init__(self, script: Script) -> None:
        from cpprb import ReplayBuffer

        super().__init__(script)
        workload = script.workload
        obs_space = workload.observation_space
        self.is_dict = isinstance(obs_space, spaces.Dict)
        columns: dict[str, Any] = {
            "act": _column(workload.action_space),
            "rew": {"dtype": np.float32},
            "done": {"dtype": np.bool_},
        }
        for key, space in _parts(obs_space).items():
            columns[key] = columns[f"next_{key}"] = _column(space)
        self.buffer = ReplayBuffer(script.transitions, columns)

    def record(self) -> None:
        """Play and add the whole script."""
        step, add = self.venv.step, self.buffer.add
        obs = self.first_obs
        if self.is_dict:
            for actions in self.script.actions:
                next_obs, rews, dones, _ = step(actions)
                next_parts = {f"next_{key}": part for key, part in next_obs.items()}
                add(act=actions, rew=rews, done=dones, **obs, **next_parts)
                obs = next_obs
            return
        for actions in self.script.actions:
            next_obs, rews, dones, _ = step(actions)
            add(obs=obs, act=actions, rew=rews, next_obs=next_obs, done=dones)
            obs = next_obs


class RowWrites(Bare):
    """One assignment a column into arrays allocated ahead: the least that copying can cost in NumPy.

    It keeps neither infos nor terminal observations, and its transitions are two copies of the observations.
    """

    name = FLOOR
    package = "numpy"

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        workload = script.workload
        steps = len(script.steps)
        self.obs = {
            key: np.empty((steps + 1, workload.num_envs, *item_shape(part)), part.dtype)
            for key, part in _parts(workload.observation_space).items()
        }
        rows = (steps, workload.num_envs)
        self.acts = np.empty(rows + item_shape(workload.action_space), workload.action_space.dtype)
        self.rews = np.empty(rows, np.float32)
        self.dones = np.empty(rows, np.bool_)

    def record(self) -> None:
        """Play and copy the whole script."""
        step, acts, rews, dones = self.venv.step, self.acts, self.rews, self.dones
        if isinstance(self.script.first_obs, dict):
            for t, actions in enumerate(self.script.actions):
                step_obs, rews[t], dones[t], _ = step(actions)
                acts[t] = actions
                for key, column in self.obs.items():
                    column[t + 1] = step_obs[key]
            return
        (obs,) = self.obs.values()
        for t, actions in enumerate(self.script.actions):
            obs[t + 1], rews[t], dones[t], _ = step(actions)
            acts[t] = actions

    def pop_transitions(self) -> Any:
        """Copy the observations twice, as `obs` and `next_obs`."""
        sources = [rows for column in self.obs.values() for rows in (column[:-1], column[1:])]
        copies = [np.empty_like(rows) for rows in sources]
        for copy, rows in zip(copies, sources, strict=True):
            np.copyto(copy, rows)
        return copies


class RowWritesAndInfos(RowWrites):
    """The least that a recording of everything can cost: row writes that keep the info dicts and the ends too.

    A reference to a dict touches it, and most dicts are in no cache. Of an episode that ended, its last observation and
    its info are copied, because wrappers above a recorder replace them. Large observations of an environment lie behind
    one another, as they have to where trajectories are views.
    """

    name = LIMIT

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.infos: list[tuple[dict[str, Any], ...]] = []
        self.ends: list[tuple[int, int, dict[str, Any], Any]] = []
        for key, column in self.obs.items():
            if column[0, 0].nbytes >= _LARGE_BYTES:
                steps, num_envs, *item = column.shape
                self.obs[key] = np.empty((num_envs, steps, *item), column.dtype).swapaxes(0, 1)

    def record(self) -> None:
        """Play and copy the whole script, and keep its infos and ends."""
        step, acts, rews, dones, keep = self.venv.step, self.acts, self.rews, self.dones, self.infos.append
        (obs,) = self.obs.values() if len(self.obs) == 1 else (None,)
        for t, actions in enumerate(self.script.actions):
            step_obs, rews[t], flags, infos = step(actions)
            dones[t] = flags
            acts[t] = actions
            keep(tuple(infos))
            if obs is not None:
                obs[t + 1] = step_obs
            else:
                for key, column in self.obs.items():
                    column[t + 1] = step_obs[key]
            if 1 in flags.tobytes():
                self._keep_ends(t, flags, infos)

    def _keep_ends(self, t: int, flags: np.ndarray, infos: list[dict[str, Any]]) -> None:
        for env in flags.nonzero()[0].tolist():
            info = infos[env]
            last = info["terminal_observation"]
            copied = {key: part.copy() for key, part in last.items()} if isinstance(last, dict) else last.copy()
            self.ends.append((t, env, dict(info), copied))

    def pop_transitions(self) -> Any:
        """Copy the observations twice, and gather the infos."""
        return super().pop_transitions(), np.fromiter(chain.from_iterable(self.infos), object)


def _parts(space: spaces.Space[Any]) -> dict[str, Any]:
    return dict(space.items()) if isinstance(space, spaces.Dict) else {"obs": space}


def _column(space: spaces.Space[Any]) -> dict[str, Any]:
    return {"shape": item_shape(space) or 1, "dtype": space.dtype}


_ALL: tuple[type[Bare], ...] = (Bare, Ours, Imitation, Sb3, Cpprb, RowWrites, RowWritesAndInfos)
_WRAPPERS: tuple[type[Bare], ...] = (Bare, Ours, Imitation)


def recorders() -> dict[str, type[Bare]]:
    """Everything that can record and is installed, by name."""
    return {kind.name: kind for kind in _ALL if find_spec(kind.package)}


def wrappers() -> dict[str, type[Bare]]:
    """Everything that hands out trajectories and is installed, and the bare environment, by name."""
    return {kind.name: kind for kind in _WRAPPERS if find_spec(kind.package)}
