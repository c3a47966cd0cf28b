"""The same as the real imitation's wrapper, bit for bit and dtypes included, wherever that one is not defective.

Not compared, because imitation loses or mixes data there: a caller that reuses its arrays, tuple observations, and
whatever relies on the count of transitions after `pop_finished_trajectories` left running fragments behind.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import vecrollout as ours
from vecrollout.testing import EpisodeScript, assert_same
from vecrollout.testing.strategies import Operation, episode_scripts, flat_spaces, leaf_spaces, operations

# What imitation says to observations that are plain numbers.
pytestmark = pytest.mark.filterwarnings("ignore:tried to wrap")
theirs = pytest.importorskip("imitation.data.wrappers")


class NoisyEnv(gym.Env):
    """Any bits as observations, rewards and infos, the same ones for the same seed."""

    def __init__(self, space: gym.Space, episodes: list[EpisodeScript], seed: int) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(2)
        self.episodes = episodes
        self.rng = np.random.default_rng(seed)
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        self.t = 0
        return noise(self.observation_space, self.rng), {}

    def step(self, action):
        self.t += 1
        script = self.episodes[self.episode % len(self.episodes)]
        ends = self.t == script.steps
        info = {"t": self.t, "x": self.rng.normal(size=2), "name": f"step {self.t}"}
        return (
            noise(self.observation_space, self.rng),
            float(self.rng.normal()),
            ends and script.terminated,
            ends and script.truncated,
            info,
        )


def noise(space: gym.Space, rng: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: np.asarray(noise(child, rng)) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return space.start + rng.integers(space.n)
    if isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete):
        return rng.integers(2, size=space.shape).astype(space.dtype)
    size = int(np.prod(space.shape)) * space.dtype.itemsize
    return np.frombuffer(rng.bytes(size), space.dtype).reshape(space.shape)


def content(data: Any) -> dict[str, Any]:
    """What imitation's classes hold, of theirs or of ours."""
    names = ["obs", "acts", "infos", "rews", *(("dones", "next_obs") if hasattr(data, "dones") else ("terminal",))]
    return {name: getattr(data, name) for name in names}


class Pair:
    """Both wrappers over environments that do the same."""

    def __init__(self, space: gym.Space, episodes: list[list[EpisodeScript]], wrap: Any) -> None:
        def venv():
            return wrap(
                DummyVecEnv([lambda i=i, each=each: NoisyEnv(space, each, seed=i) for i, each in enumerate(episodes)])
            )

        self.ours = ours.BufferingWrapper(venv())
        self.theirs = theirs.BufferingWrapper(venv())
        assert_same(self.ours.reset(), self.theirs.reset())
        # Whether imitation's count is wrong: fragments are held that it does not count.
        self.miscounts = False
        self.steps_since = 0

    def step(self, actions: np.ndarray) -> None:
        mine, other = self.ours.step(actions.copy()), self.theirs.step(actions.copy())
        assert_same(mine, other)
        self.steps_since += 1

    def pop_transitions(self) -> None:
        if self.miscounts:
            return
        if self.both_raise("pop_transitions", nothing_held=True):
            return
        assert_same(content(self.ours.pop_transitions()), content(self.theirs.pop_transitions()))

    def pop_trajectories(self) -> None:
        if self.miscounts and not self.steps_since:
            return
        self.compare("pop_trajectories")
        self.miscounts = False

    def pop_finished_trajectories(self) -> None:
        self.compare("pop_finished_trajectories")
        self.miscounts = self.ours.held > 0
        self.steps_since = 0

    def reset(self) -> None:
        if self.miscounts or self.both_raise("reset", nothing_held=False):
            return
        assert_same(self.ours.reset(), self.theirs.reset())

    def compare(self, pop: str) -> None:
        (mine, my_lengths), (others, their_lengths) = getattr(self.ours, pop)(), getattr(self.theirs, pop)()
        assert my_lengths == list(their_lengths)
        assert len(mine) == len(others)
        for left, right in zip(mine, others, strict=True):
            assert_same(content(left), content(right))

    def both_raise(self, call: str, nothing_held: bool) -> bool:
        """Whether this is refused while nothing, or something, is held; then both refuse it alike."""
        if (self.ours.held == 0) != nothing_held:
            return False
        for venv in (self.ours, self.theirs):
            with pytest.raises(RuntimeError):
                getattr(venv, call)()
        return True


def play(pair: Pair, operations: list[Operation], act_space: gym.Space) -> None:
    rng = np.random.default_rng(1)
    for action, times in operations:
        if action != "step":
            getattr(pair, action)()
        for _ in range(times if action == "step" else 0):
            pair.step(np.stack([noise(act_space, rng) for _ in range(pair.ours.num_envs)]))
        if not pair.miscounts:
            assert pair.ours.n_transitions == pair.theirs.n_transitions
    pair.pop_trajectories()


EPISODES = st.lists(st.lists(episode_scripts(), min_size=1, max_size=3), min_size=1, max_size=4)


@given(
    space=flat_spaces().filter(lambda space: not isinstance(space, spaces.Tuple)),
    episodes=EPISODES,
    operations=operations(),
    act_space=leaf_spaces(),
)
def test_same_as_imitation(space, episodes, operations, act_space):
    play(Pair(space, episodes, wrap=lambda venv: venv), operations, act_space)


@given(
    shape=st.sampled_from([(), (3,), (2, 2)]),
    episodes=EPISODES,
    operations=operations(),
    wrap=st.sampled_from([VecNormalize, lambda venv: VecFrameStack(venv, 2)]),
)
def test_same_as_imitation_above_wrappers(shape, episodes, operations, wrap):
    shape = shape if wrap is VecNormalize else (*shape, 2)
    space = spaces.Box(0, 255, shape, np.uint8)
    play(Pair(space, episodes, wrap), operations, spaces.Discrete(2))
