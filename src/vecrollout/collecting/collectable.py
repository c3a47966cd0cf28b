"""Environments to collect from: every kind is reset and stepped in the same way, and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from vecrollout._typing import RecordInfos
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.recording.autoreset import Autoreset
from vecrollout.recording.batching import Batching
from vecrollout.recording.environments import AnyEnv, is_vector_env, spaces_of
from vecrollout.recording.recorder import Recorder
from vecrollout.recording.sb3 import BufferingWrapper
from vecrollout.recording.single import BufferingEnvWrapper
from vecrollout.recording.vector import VectorBufferingWrapper


class Stepped(NamedTuple):
    """What came of a step."""

    obs: Any
    """Observations to act on, `(E, *obs_shape)`."""
    ended: npt.NDArray[np.bool_]
    """Which environments' episodes ended with the step, shape `(E,)`."""
    starts: npt.NDArray[np.bool_]
    """Which of the observations are the first of an episode, shape `(E,)`."""


class Collectable(Protocol):
    """E environments in which a policy acts; they are reset by themselves, and recorded."""

    @property
    def num_envs(self) -> int:
        """Number of environments, E."""

    @property
    def recorder(self) -> Recorder:
        """Where the trajectories are popped."""

    def reset(self) -> Any:
        """Reset all environments; returns their observations."""

    def step(self, acts: Any) -> Stepped:
        """Let all environments act."""


def collectable(env: AnyEnv, record_infos: RecordInfos, vector_options: Mapping[str, Any]) -> Collectable:
    """Environments of any kind with a recorder around them.

    Args:
        env: The environments.
        record_infos: Which infos to keep.
        vector_options: Options of `VectorBufferingWrapper` that others do not have; None: its own default.

    Raises:
        ArgumentTypeError: If `env` is no environment.
        OptionError: If there are such options for an environment of another kind, or one is wrong.
    """
    given = {name: option for name, option in vector_options.items() if option is not None}
    if is_vector_env(env):
        return _Vector(VectorBufferingWrapper(env, record_infos=record_infos, **given))
    if given:
        raise OptionError(f"{', '.join(given)}: only for a VectorEnv of Gymnasium, got a {type(env).__name__}")
    if isinstance(env, VecEnv):
        return _Sb3(BufferingWrapper(env, record_infos=record_infos))
    if isinstance(env, gym.Env):
        return _Single(BufferingEnvWrapper(env, record_infos=record_infos))
    raise ArgumentTypeError(
        "venv: expected a VecEnv of Stable-Baselines3, a VectorEnv of Gymnasium, or a single gymnasium.Env, got "
        f"{type(env).__name__}"
    )


class _Sb3:
    """A `VecEnv`, which begins the next episode in the step that ends one."""

    def __init__(self, recorder: BufferingWrapper) -> None:
        self.recorder = recorder
        self.num_envs = recorder.num_envs

    def reset(self) -> Any:
        return self.recorder.reset()

    def step(self, acts: Any) -> Stepped:
        obs, _, dones, _ = self.recorder.step(acts)
        ended = np.asarray(dones, dtype=bool)
        return Stepped(obs, ended, ended)


class _Vector:
    """A Gymnasium `VectorEnv`, under each of the autoreset rules."""

    def __init__(self, recorder: VectorBufferingWrapper) -> None:
        self.recorder = recorder
        self.num_envs: int = recorder.num_envs
        self._batching = Batching(recorder.single_observation_space)
        self._over = np.zeros(self.num_envs, dtype=bool)  # under the next-step rule: whom the next step resets

    def reset(self) -> Any:
        self._over = np.zeros(self.num_envs, dtype=bool)
        obs, _ = self.recorder.reset()
        return obs

    def step(self, acts: Any) -> Stepped:
        obs, _, terminated, truncated, _ = self.recorder.step(acts)
        ended = starts = np.logical_or(terminated, truncated)
        if self.recorder.autoreset is Autoreset.NEXT_STEP:
            starts, self._over = self._over, ended & ~self._over
            return Stepped(obs, self._over, starts)
        if self.recorder.autoreset is Autoreset.DISABLED and ended.any():
            # The environment may keep the mask.
            first_obs, _ = self.recorder.reset(options={"reset_mask": ended.copy()})
            # What it returns of environments that were not reset need not be their current observation.
            obs = self._batching.merged(ended, first_obs, obs)
        return Stepped(obs, ended, starts)


class _Single:
    """A single environment, as a vector of one that is reset when its episode has ended."""

    num_envs = 1

    def __init__(self, recorder: BufferingEnvWrapper) -> None:
        self.recorder = recorder
        self._observations, self._actions = map(Batching, spaces_of(recorder))

    def reset(self) -> Any:
        obs, _ = self.recorder.reset()
        return self._observations.of_one(obs)

    def step(self, acts: Any) -> Stepped:
        obs, _, terminated, truncated, _ = self.recorder.step(self._actions.only(acts))
        ended = np.array([terminated or truncated])
        return Stepped(self.reset() if ended[0] else self._observations.of_one(obs), ended, ended)
