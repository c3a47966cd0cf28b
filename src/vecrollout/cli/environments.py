"""Environments by their id, as Stable-Baselines3 and its zoo build them."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import multiprocessing
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

from vecrollout.data.frames import FIRST_FRAME, FRAME
from vecrollout.errors import MissingDependencyError, OptionError
from vecrollout.recording.environments import AnyEnv

SEED = "reset_seed"
"""Key of a reset's info that has the seed of that reset."""

OF_SB3 = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}
"""Vectorizations of Stable-Baselines3, by the name that the command line has for them."""
_OF_GYMNASIUM = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}
_OF_ITS_OWN = "own"
VECTORIZATIONS = (*OF_SB3, *_OF_GYMNASIUM, _OF_ITS_OWN)

_ATARI_FRAMES = 4
"""How many frames the zoo stacks."""


@dataclass(frozen=True)
class Recipe:
    """How the environments of a recording are made; kept in its metadata, for replays.

    Source:
        `rl_zoo3.exp_manager` (RL Baselines3 Zoo 2.9): Atari games get `AtariWrapper` and `VecFrameStack(4)`.
    """

    env_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of `gymnasium.make`."""
    is_atari: bool = False
    """Whether each environment is in SB3's `AtariWrapper`."""
    frame_stack: int = 1
    """How many frames `VecFrameStack` stacks; 1: there is none."""
    keeps_frames: bool = False
    vectorization: str = "dummy"

    @classmethod
    def of(
        cls,
        env_id: str,
        arguments: Mapping[str, Any],
        *,
        atari: bool | None,
        frame_stack: int | None,
        keeps_frames: bool,
        vectorization: str,
    ) -> Recipe:
        """The recipe for an environment; what is None follows from its id."""
        if vectorization not in VECTORIZATIONS:
            raise OptionError(f"vec: expected one of {', '.join(VECTORIZATIONS)}, got {vectorization!r}")
        env_id, spec = registered(env_id)
        is_game = "AtariEnv" in str(spec.entry_point)
        is_atari = is_game if atari is None else atari
        stack = frame_stack or (_ATARI_FRAMES if is_atari else 1)
        if vectorization == _OF_ITS_OWN and (is_atari or keeps_frames):
            raise OptionError("vec: expected dummy, subproc, sync or async with --frames or --atari, got own")
        if stack > 1 and vectorization not in OF_SB3:
            raise OptionError(
                f"vec: expected dummy or subproc for stacked frames, got {vectorization!r}; pass --vec dummy, or "
                "--no-atari --frame-stack 1"
            )
        if is_atari and importlib.util.find_spec("cv2") is None:
            raise MissingDependencyError(f'{env_id}: AtariWrapper needs OpenCV: pip install "vecrollout[atari]"')
        if is_game and is_atari and spec.kwargs.get("frameskip") != 1:
            # The wrapper skips frames itself, and takes the maximum of the last two.
            arguments = {"frameskip": 1, **arguments}
        return cls(env_id, dict(arguments), is_atari, stack, keeps_frames, vectorization)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Recipe:
        """The recipe that is kept in a recording's metadata."""
        return cls(**{name: told[name] for name in cls.__dataclass_fields__ if name in told})

    def to_json(self) -> dict[str, Any]:
        """Plain data, for metadata."""
        return asdict(self)

    @property
    def spec_json(self) -> str | None:
        """The environment's spec without wrappers; None if it holds what JSON cannot."""
        try:
            return str(self._spec().to_json())
        except (TypeError, ValueError, AttributeError):
            return None

    def _spec(self) -> Any:
        _, spec = registered(self.env_id)
        return type(spec)(**{**vars_of(spec), "kwargs": {**spec.kwargs, **self.arguments}})

    def one(self, seed: int = 0, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """A single environment with its wrappers."""
        arguments = dict(self.arguments)
        if render_mode is not None:
            arguments["render_mode"] = render_mode
        elif self.keeps_frames:
            arguments["render_mode"] = "rgb_array"
        try:
            env = gym.make(self.env_id, **arguments)
        except gym.error.DependencyNotInstalled as error:
            raise MissingDependencyError(f"{self.env_id}: {error}") from error
        except (gym.error.Error, ImportError) as error:
            raise OptionError(f"{self.env_id}: {error}") from error
        except (TypeError, ValueError) as error:
            raise OptionError(f"{self.env_id}: cannot be made with the arguments {arguments}: {error}") from error
        return self._wrapped(env, seed)

    def many(self, count: int, seed: int) -> AnyEnv:
        """Vectorized environments; frames are stacked by SB3's `VecFrameStack`."""
        arguments = {**self.arguments, **({"render_mode": "rgb_array"} if self.keeps_frames else {})}
        wrapper: Any = partial(self._wrapped, seed=seed)
        if self.vectorization == _OF_ITS_OWN:
            return self._own(count)
        if self.vectorization in _OF_GYMNASIUM:
            made = partial(_made, self.env_id, arguments, wrapper)
            cls: Any = _OF_GYMNASIUM[self.vectorization]
            return cls([made] * count)  # type: ignore[no-any-return]
        venv = make_vec_env(
            partial(gym.make, self.env_id),  # by the id alone, it asks for frames of environments that have none
            count,
            seed=seed,
            wrapper_class=wrapper,
            env_kwargs=arguments,
            vec_env_cls=OF_SB3[self.vectorization],  # type: ignore[arg-type]  # a class of either kind
        )
        return VecFrameStack(venv, self.frame_stack) if self.frame_stack > 1 else venv

    def _own(self, count: int) -> AnyEnv:
        """The vector environment that an environment's author has registered with it."""
        name = self.env_id.rpartition(":")[2]
        if not hasattr(gym.vector, "VectorWrapper"):
            raise OptionError(f"vec: own needs Gymnasium 1.0 or newer, got {gym.__version__}")
        if getattr(gym.spec(name), "vector_entry_point", None) is None:
            raise OptionError(f"vec: {name} has no vectorization of its own; pass --vec dummy, subproc, sync or async")
        return gym.make_vec(self.env_id, count, vectorization_mode="vector_entry_point", **self.arguments)

    def _wrapped(self, env: gym.Env[Any, Any], seed: int) -> gym.Env[Any, Any]:
        if multiprocessing.parent_process() is not None:
            # Ctrl-C goes to all processes of a terminal. The one that records ends the others.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.is_atari:
            env = AtariWrapper(env)
        else:
            # Not all resets of an AtariWrapper begin a game.
            env = SeededEpisodes(env, seed)
        return KeptFrames(env) if self.keeps_frames else env


def _made(env_id: str, arguments: Mapping[str, Any], wrapper: Any) -> Any:
    return wrapper(gym.make(env_id, **arguments))


def vars_of(spec: Any) -> dict[str, Any]:
    """The arguments of an `EnvSpec`."""
    return {name: getattr(spec, name) for name, each in type(spec).__dataclass_fields__.items() if each.init}


def registered(env_id: str) -> tuple[str, Any]:
    """An id that processes of their own know as well, and its spec; names near an unknown id."""
    module, colon, name = env_id.rpartition(":")
    if not colon and env_id not in gym.registry and importlib.util.find_spec("ale_py") is not None:
        importlib.import_module("ale_py")
        if env_id in gym.registry:
            module, name = "ale_py", env_id
    full_name = f"{module}:{name}" if module else env_id
    try:
        if module:
            importlib.import_module(module)
        return full_name, gym.spec(name)
    except ImportError as error:
        raise OptionError(f"{env_id}: the module {module!r} cannot be imported: {error}") from error
    except gym.error.Error as error:
        folded = {each.casefold(): each for each in gym.registry}
        near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
        if name.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
            raise MissingDependencyError(f'{env_id}: needs ale-py: pip install "vecrollout[atari]"') from error
        cure = (
            f"did you mean {' or '.join(folded[each] for each in near)}?"
            if near
            else ("pass MODULE:ID for an environment that a module registers")
        )
        raise OptionError(f"{env_id}: no environment of this name is registered; {cure}") from error


def spec_of_json(text: str) -> Any:
    """The `EnvSpec` that a trace keeps; None if it is another text."""
    try:
        return gym.envs.registration.EnvSpec.from_json(text)
    except (ValueError, TypeError, KeyError, json.JSONDecodeError):
        return None


class SeededEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """Gives each reset a seed, and tells it in the reset's info, so that each episode can be replayed by itself.

    Args:
        env: The environment.
        seed: What the seeds of resets without one are made of, together with the seed of the first reset.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        super().__init__(env)
        self._seed = seed
        self._seeds: np.random.Generator | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Args:
            seed: Seed of the reset; None: the next one of this wrapper's own.
            options: Passed on to the environment.
        """
        if self._seeds is None:
            # Vector environments give the first reset of each environment a seed of its own.
            entropy = [self._seed] if seed is None else [self._seed, seed]
            self._seeds = np.random.default_rng(entropy)
        if seed is None:
            seed = int(self._seeds.integers(2**31))
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, {**info, SEED: seed}


class KeptFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Adds the frame after each step to its info, and the frame after the reset to the first info of the episode."""

    _first: Any = None

    def reset(self, **options: Any) -> Any:
        """Reset the environment.

        Args:
            options: Passed on to the environment.
        """
        obs, info = self.env.reset(**options)
        self._first = np.array(self.env.render())
        return obs, info

    def step(self, action: Any) -> Any:
        """Step the environment.

        Args:
            action: Passed on to the environment.
        """
        obs, rew, terminated, truncated, info = self.env.step(action)
        info = {**info, FRAME: np.array(self.env.render())}
        if self._first is not None:
            # Not in the info of the reset, which is read with the identity of each episode.
            info[FIRST_FRAME], self._first = self._first, None
        return obs, rew, terminated, truncated, info


def seed_column(trajectory: Any) -> dict[str, Any] | None:
    """The seed of an episode's reset as a column of the table, which has seeds that a user passed to `reset` only."""
    seed = (trajectory.episode.reset_info or {}).get(SEED)
    return None if seed is None else {SEED: int(seed)}
