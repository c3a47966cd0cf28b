"""Batched `gymnasium.Env`s, as GPU simulators have them: `num_envs`, and tensors with a row an environment."""

from __future__ import annotations

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    VectorBufferingWrapper,
    generate_trajectories,
    make_min_episodes,
    open_traces,
    record_traces,
)
from vecrollout.errors import (
    ArgumentTypeError,
    MissingTerminalObservationError,
    OptionError,
    ShapeError,
    StructureError,
)
from vecrollout.testing import assert_same

LENGTHS = (2, 3, 4)
NUM_ENVS = len(LENGTHS)
BOX = spaces.Box(-9, 999, (2,), np.float32)
ARM = spaces.Box(-1, 1, (1,), np.float32)


class Simulator(gym.Env):
    """Counts: row i of `policy` is (step, episode) of environment i, whose episodes have `LENGTHS[i]` steps.

    Resets in the same step, in place, as Isaac Lab does. Odd episodes are cut by a time limit.
    """

    metadata: ClassVar = {}
    num_envs = NUM_ENVS
    single_observation_space = spaces.Dict(policy=BOX)
    single_action_space = ARM
    observation_space = batch_space(single_observation_space, NUM_ENVS)
    action_space = batch_space(single_action_space, NUM_ENVS)

    def __init__(self, keeps_finals=True):
        self.keeps_finals = keeps_finals
        self.lengths = torch.tensor(LENGTHS)
        self.count = torch.zeros(NUM_ENVS, 2)
        self.calls = 0

    def observed(self):
        return {"policy": self.count}  # the same memory at every step

    def reset(self, *, seed=None, options=None):
        envs = slice(None) if options is None else options["env_idx"]
        self.count[envs, 0] = 0
        self.count[envs, 1] += 1
        return self.observed(), {"log": {}}

    def step(self, actions):
        assert isinstance(actions, torch.Tensor)
        self.calls += 1
        self.count[:, 0] += 1
        over = self.count[:, 0] >= self.lengths
        truncated = over & (self.count[:, 1] % 2 == 1)
        infos = {"log": {"mean": torch.tensor(0.5)}, "height": self.count[:, 0] / 2}
        if self.keeps_finals:
            infos["final_obs"] = {"policy": self.count.clone()}
        rewards = self.count[:, 0].clone()
        self.after(over)
        return self.observed(), rewards, over & ~truncated, truncated, infos

    def after(self, over):
        self.count[over, 0] = 0
        self.count[over, 1] += 1


class Manual(Simulator):
    """Its episodes go on until somebody resets them, by `env_idx`, as in ManiSkill."""

    metadata: ClassVar = {"autoreset_mode": "disabled"}

    def after(self, over):
        pass


class Unspecified(Simulator):
    """Says nothing of the spaces of its environments."""

    single_observation_space = single_action_space = None
    observation_space = batch_space(spaces.Dict(policy=BOX), NUM_ENVS)


def drive(recorder, steps):
    recorder.reset(seed=3)
    for _ in range(steps):
        recorder.step(torch.zeros(NUM_ENVS, 1))


def assert_counts(trajectories):
    """Each trajectory is one episode's, without a step of another."""
    for each in trajectories:
        length = LENGTHS[each.episode.env_index]
        count = each.obs.get("policy")
        number = count[0, 1]
        assert_same(count[:, 0], np.arange(len(each) + 1, dtype=np.float32))
        assert_same(count[:, 1], np.full(len(each) + 1, number))
        assert_same(each.acts, np.zeros((len(each), 1), np.float32))
        assert_same(each.rews, np.arange(1, len(each) + 1, dtype=np.float32))
        assert [info["height"] for info in each.infos] == [(step + 1) / 2 for step in range(len(each))]
        assert [info["log"] for info in each.infos] == [{"mean": 0.5}] * len(each)
        ended_by = ("terminated", "truncated")[int(number) % 2] if len(each) == length else None
        assert each.episode.ended_by == ended_by


@pytest.mark.parametrize("wrap", [lambda env: env, gym.wrappers.OrderEnforcing], ids=["bare", "wrapped"])
@pytest.mark.parametrize("make", [Simulator, Unspecified])
def test_recorded(make, wrap):
    env = wrap(make())
    recorder = VectorBufferingWrapper(env, autoreset_mode="same_step")
    drive(recorder, 12)
    trajectories, lengths = recorder.pop_trajectories()
    assert_counts(trajectories)
    assert sorted(lengths) == [2] * 6 + [3] * 4 + [4] * 3
    assert recorder.single_observation_space == spaces.Dict(policy=BOX)
    assert recorder.single_action_space == ARM
    assert recorder.unwrapped is env.unwrapped
    seeds = {(each.episode.id, each.episode.seed) for each in trajectories}
    assert {seed for number, seed in seeds if number < NUM_ENVS} == {3}
    assert {seed for number, seed in seeds if number >= NUM_ENVS} == {None}


def test_what_it_returns_passes_through():
    env = Simulator()
    recorder = VectorBufferingWrapper(env, autoreset_mode="same_step")
    obs, _ = recorder.reset()
    assert obs["policy"] is env.count
    obs, rewards, terminated, *_ = recorder.step(torch.zeros(NUM_ENVS, 1))
    assert obs["policy"] is env.count
    assert isinstance(rewards, torch.Tensor)
    assert isinstance(terminated, torch.Tensor)


def test_last_observations_elsewhere():
    class Elsewhere(Simulator):
        def step(self, actions):
            *step, infos = super().step(actions)
            return (*step, {**infos, "extras": infos.pop("final_obs")})

    recorder = VectorBufferingWrapper(
        Elsewhere(),
        autoreset_mode="same_step",
        final_obs_fn=lambda infos: infos["extras"],
        record_infos=["height", "log"],
    )
    drive(recorder, 12)
    assert_counts(recorder.pop_trajectories()[0])


def test_lost_last_observations():
    recorder = VectorBufferingWrapper(Simulator(keeps_finals=False), autoreset_mode="same_step")
    with pytest.raises(MissingTerminalObservationError, match="final_obs_fn"):
        drive(recorder, 2)
    assert len(recorder.pop_transitions()) == NUM_ENVS  # the step before
    dropping = VectorBufferingWrapper(
        Simulator(keeps_finals=False), autoreset_mode="same_step", missing_final_obs="drop"
    )
    drive(dropping, 12)
    assert dropping.dropped == 6 + 4 + 3
    for each in dropping.pop_trajectories()[0]:
        assert_same(each.obs.get("policy")[:, 0], np.arange(len(each) + 1, dtype=np.float32))


def test_last_observations_of_other_environments_only():
    """It is unknown which rows they are."""
    recorder = VectorBufferingWrapper(
        Simulator(), autoreset_mode="same_step", final_obs_fn=lambda infos: infos["final_obs"]["policy"][:1]
    )
    with pytest.raises(ShapeError, match="final_obs_fn: expected 3 rows, one an environment, got 1"):
        drive(recorder, 2)


def test_reset_of_some_by_their_indices():
    recorder = VectorBufferingWrapper(Manual(), False)
    recorder.reset()
    for _ in range(6):
        _, _, terminated, truncated, _ = recorder.step(torch.zeros(NUM_ENVS, 1))
        over = terminated | truncated
        if over.any():
            recorder.reset(options={"env_idx": over.nonzero()[:, 0]})
    recorder.reset(options={"env_idx": [0, 2]})
    trajectories = recorder.pop_finished_trajectories()[0]
    early = [each for each in trajectories if each.episode.ended_by == "reset_early"]
    assert [(each.episode.env_index, len(each)) for each in early] == [(2, 2)]
    assert_counts([each for each in trajectories if each.terminal])


def test_to_disk(tmp_path):
    recorder = record_traces(Simulator(), tmp_path, autoreset_mode="same_step")
    drive(recorder, 12)
    recorder.flush()
    trajectories = list(open_traces(tmp_path))
    assert len(trajectories) == 13
    assert_counts(trajectories)
    recorder.close()


def test_collecting():
    def policy(obs, states, starts):
        assert isinstance(obs["policy"], torch.Tensor)
        return torch.zeros(NUM_ENVS, 1), None

    rng = np.random.default_rng(0)
    for env, rule in ((Simulator(), "same_step"), (Manual(), None)):
        trajectories = generate_trajectories(policy, env, make_min_episodes(6), rng, autoreset_mode=rule)
        assert len(trajectories) >= 6
        assert_counts(trajectories)


def test_its_rule_has_to_be_named():
    with pytest.raises(OptionError, match="autoreset_mode: Simulator does not say"):
        VectorBufferingWrapper(Simulator())


@pytest.mark.parametrize("wrapper", [BufferingWrapper, BufferingEnvWrapper])
def test_the_right_wrapper_is_named(wrapper):
    env = Simulator()
    with pytest.raises(ArgumentTypeError, match=r"got Simulator.*use VectorBufferingWrapper"):
        wrapper(env)
    assert env.calls == 0


class OtherLibrarys:
    """A wrapper of a learner's own around a batched environment."""

    num_envs = NUM_ENVS

    def __init__(self, env):
        self.env = self.unwrapped = env


@pytest.mark.parametrize("record", [VectorBufferingWrapper, BufferingEnvWrapper, BufferingWrapper, record_traces])
def test_another_librarys_wrapper(record, tmp_path):
    options = [tmp_path] if record is record_traces else []
    with pytest.raises(ArgumentTypeError, match=r"got OtherLibrarys; .*VectorBufferingWrapper\(env\.unwrapped\)"):
        record(OtherLibrarys(Simulator()), *options)


def test_one_that_hides_its_number():
    """What a single environment returns has one flag."""

    class Hiding(Simulator):
        num_envs = None

    recorder = BufferingEnvWrapper(Hiding())
    recorder.reset()
    with pytest.raises(ShapeError, match=r"terminated: expected one flag.*num_envs.*VectorBufferingWrapper"):
        recorder.step(torch.zeros(NUM_ENVS, 1))
    assert recorder.held == 0


def test_the_old_interface_of_a_step():
    class Old(Simulator):
        def step(self, actions):
            obs, rewards, terminated, truncated, infos = super().step(actions)
            return obs, rewards, terminated | truncated, infos

    recorder = VectorBufferingWrapper(Old(), autoreset_mode="same_step")
    recorder.reset()
    with pytest.raises(StructureError, match=r"expected five values.*got 4"):
        recorder.step(torch.zeros(NUM_ENVS, 1))


class One(gym.Env):
    """A single environment that counts itself."""

    num_envs = 1
    observation_space = spaces.Box(-9, 9, (2, 2), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 2), np.float32), {}

    def step(self, action):
        return np.ones((2, 2), np.float32), 1.0, False, False, {}


def test_one_environment_that_counts_itself():
    recorder = BufferingEnvWrapper(One())
    recorder.reset()
    recorder.step(0)
    assert recorder.pop_transitions().obs.shape == (1, 2, 2)


def test_the_only_environment_taken_out_of_its_batch():
    """As ManiSkill's `CPUGymWrapper` does."""

    class Alone(Simulator):
        num_envs = 1
        observation_space = batch_space(Simulator.single_observation_space, 1)
        action_space = batch_space(ARM, 1)

        def __init__(self):
            super().__init__()
            self.lengths, self.count = self.lengths[:1], self.count[:1]

    class TakenOut(gym.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space, self.action_space = env.single_observation_space, ARM

        def reset(self, **kwargs):
            obs, infos = self.env.reset(**kwargs)
            return {"policy": obs["policy"][0]}, infos

        def step(self, action):
            obs, rewards, terminated, truncated, infos = self.env.step(torch.as_tensor(action)[None])
            return {"policy": obs["policy"][0]}, rewards[0], terminated[0], truncated[0], infos

    single = BufferingEnvWrapper(TakenOut(Alone()))
    single.reset()
    single.step(np.zeros(1, np.float32))
    assert single.pop_transitions().obs.shape == {"policy": (1, 2)}
    batched = VectorBufferingWrapper(Alone(), autoreset_mode="same_step")
    batched.reset()
    batched.step(torch.zeros(1, 1))
    assert batched.pop_transitions().obs.shape == {"policy": (1, 2)}


@pytest.mark.parametrize(
    "space",
    [
        BOX,
        spaces.Discrete(4),
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Tuple((BOX, spaces.Discrete(3))),
        spaces.Dict(a=spaces.Dict(b=BOX)),
    ],
    ids=str,
)
def test_spaces_of_one_environment(space, tmp_path):
    """They come out of the batched ones, and are stored with a trace."""

    class Silent(gym.Env):
        num_envs = 2
        metadata: ClassVar = {"autoreset_mode": "next_step"}
        observation_space = batch_space(space, 2)
        action_space = batch_space(space, 2)

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

        def step(self, actions):
            return self.observation_space.sample(), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool), {}

    env = Silent()
    recorder = record_traces(env, tmp_path)
    found = recorder.single_observation_space
    assert recorder.single_action_space == found
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):  # batched as a Box
        assert (found.shape, found.dtype) == (space.shape, space.dtype)
    else:
        assert found == space
    recorder.reset()
    recorder.step(env.action_space.sample())
    recorder.close()
    assert len(open_traces(tmp_path)) == 2
