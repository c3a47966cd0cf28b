"""`BufferingEnvWrapper` with the other wrappers for single environments, and with what single environments do."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

from vecrollout import BufferingEnvWrapper, CopyingWrapper, RolloutInfoWrapper, unwrap_traj
from vecrollout.errors import PrematureResetError, ProtocolError
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, ScriptedError, assert_same, batch_of

EPISODES = [EpisodeScript(3), EpisodeScript(2, "truncated"), EpisodeScript(4, "both")]


def counting(space="box", **options):
    return CountingEnv(space, EPISODES, first=10, stride=20, **options)


def play(env, episodes=3):
    """Whole episodes, one after the other."""
    for _ in range(episodes):
        env.reset()
        is_over = False
        while not is_over:
            *_, terminated, truncated, _ = env.step(1)
            is_over = terminated or truncated


def assert_all_recorded(env, space="box"):
    trajectories, lengths = env.pop_finished_trajectories()
    assert list(lengths) == [script.steps for script in EPISODES]
    for k, (trajectory, script) in enumerate(zip(trajectories, EPISODES, strict=True)):
        first = 10 + 20 * k
        assert_same(trajectory.obs, batch_of(SPACES[space], range(first, first + script.steps + 1)))
        assert_same(trajectory.acts, np.ones(script.steps, np.int64))
        assert_same(trajectory.rews, np.arange(first + 1, first + script.steps + 1) + 0.5)
        assert [info["t"] for info in trajectory.infos] == list(range(1, script.steps + 1))
        assert (trajectory.terminated, trajectory.truncated) == (script.terminated, script.truncated)
        assert trajectory.episode.reset_info["episode"] == k


@pytest.mark.parametrize("space", ["box", "box_scalar", "image", "discrete", "dict", "tuple", "nested"])
def test_an_environment_that_reuses_its_arrays(space):
    """The recorder copies at once, so no other wrapper is needed."""
    env = BufferingEnvWrapper(counting(space, reuse_obs=True, reuse_info=True))
    play(env)
    assert_all_recorded(env, space)


@pytest.mark.parametrize("order", ["above", "below"])
def test_with_a_copying_wrapper(order):
    base = counting(reuse_obs=True, reuse_info=True)
    env = BufferingEnvWrapper(CopyingWrapper(base)) if order == "above" else CopyingWrapper(BufferingEnvWrapper(base))
    play(env)
    assert_all_recorded(env if order == "above" else env.env)


def test_above_a_rollout_info_wrapper():
    """The raw record is in the infos, and can be put in the place of what was recorded."""

    class Tenfold(gym.ObservationWrapper):
        def observation(self, observation):
            return observation * 10

    env = BufferingEnvWrapper(Tenfold(RolloutInfoWrapper(CopyingWrapper(counting(reuse_obs=True)))))
    play(env)
    for k, trajectory in enumerate(env.pop_finished_trajectories()[0]):
        raw = batch_of(SPACES["box"], range(10 + 20 * k, 11 + 20 * k + len(trajectory)))
        assert_same(trajectory.obs, raw * 10)
        assert_same(unwrap_traj(trajectory).obs, raw)


def test_below_a_rollout_info_wrapper():
    """What that one adds is not recorded, and what is recorded is not changed by it."""
    env = BufferingEnvWrapper(counting())
    play(RolloutInfoWrapper(env))
    trajectories = env.pop_trajectories()[0]
    assert not any("rollout" in info for trajectory in trajectories for info in trajectory.infos)


def test_what_passes_through_is_the_environments_own():
    class Kept(gym.Wrapper):
        def reset(self, **kwargs):
            self.returned = super().reset(**kwargs)
            return self.returned

        def step(self, action):
            self.action, self.returned = action, super().step(action)
            return self.returned

    inner = Kept(counting())
    env = BufferingEnvWrapper(inner)
    assert [got is given for got, given in zip(env.reset(), inner.returned, strict=True)] == [True, True]
    action = np.int64(2)
    assert env.step(action) is inner.returned
    assert inner.action is action


def test_a_reset_in_the_middle_of_an_episode():
    """It is refused while anything is held; after an episode's end it never is."""
    env = BufferingEnvWrapper(counting())
    env.reset()
    env.step(1)
    with pytest.raises(PrematureResetError, match="1 transitions are held"):
        env.reset()
    env.step(1)
    env.step(1)
    env.reset()
    assert env.held == 3
    env.error_on_premature_reset = False
    env.step(1)
    env.reset(seed=4)
    env.step(1)
    trajectories = env.pop_trajectories()[0]
    assert [each.episode.ended_by for each in trajectories] == ["terminated", "reset_early", None]
    assert [each.episode.seed for each in trajectories] == [None, None, 4]


def test_a_step_after_the_end_of_an_episode():
    """It is the environment's to refuse; it is not recorded, and a reset mends it."""
    env = BufferingEnvWrapper(gym.wrappers.OrderEnforcing(counting()))
    play(env, episodes=1)
    with pytest.raises(ProtocolError, match="reset"):
        env.step(1)
    assert env.held == 3
    env.reset()
    env.step(1)
    assert env.held == 4


@pytest.mark.filterwarnings("ignore:.*already returned")
@pytest.mark.parametrize("looks", [False, True])
def test_steps_after_the_end_that_the_environment_allows(looks):
    """It says at each of them that the episode has ended; that was recorded once."""
    sink = []
    env = BufferingEnvWrapper(gym.make("CartPole-v1").unwrapped, sink=sink)
    for episode in range(3):
        env.reset(seed=episode)
        is_over = False
        steps = 0
        while not is_over:
            _, _, is_over, _, _ = env.step(1)
            steps += 1
        for _ in range(5):
            assert env.step(1)[2]
            if looks:
                assert (env.held, env.stepped) == (0, env.sunk)
        assert [each.episode.id for each in sink] == list(range(episode + 1))
        assert len(sink[-1]) == steps
    assert env.stepped == env.sunk == sum(map(len, sink))


@pytest.mark.skipif(not hasattr(gym.wrappers, "Autoreset"), reason="this gymnasium does not have the wrapper")
def test_an_environment_that_resets_itself():
    """The step in which it does so is none; the observation that comes of it begins an episode."""
    env = BufferingEnvWrapper(gym.wrappers.Autoreset(CountingEnv("box", [EpisodeScript(3, "terminated")])))
    env.reset(seed=3)
    for _ in range(3 + 1 + 3 + 1 + 2):
        env.step(1)
    assert env.stepped == 3 + 3 + 2
    trajectories = env.pop_trajectories()[0]
    assert [len(each) for each in trajectories] == [3, 3, 2]
    assert [each.episode.seed for each in trajectories] == [3, None, None]
    assert [each.episode.reset_info["episode"] for each in trajectories] == [0, 1, 2]
    for each in trajectories:
        assert each.obs[:, 0].tolist() == list(range(len(each) + 1))


@pytest.mark.skipif(not hasattr(gym.wrappers, "AutoResetWrapper"), reason="this gymnasium does not have the wrapper")
@pytest.mark.parametrize("space", ["box", "image", "discrete", "dict", "tuple", "nested"])
def test_an_environment_that_resets_itself_in_the_same_step(space):
    """Gymnasium 0.29: the last observation and info are among those of the reset."""
    env = BufferingEnvWrapper(gym.wrappers.AutoResetWrapper(counting(space)))
    env.reset(seed=3)
    for _ in range(sum(script.steps for script in EPISODES)):
        env.step(1)
    trajectories, _ = env.pop_finished_trajectories()
    assert [each.episode.seed for each in trajectories] == [3, None, None]
    env.step(1)
    (after,) = env.pop_trajectories()[0]
    assert_same(after.obs, batch_of(SPACES[space], [70, 71]))
    assert after.episode.reset_info == {"episode": 3, "seed": None}
    env = BufferingEnvWrapper(gym.wrappers.AutoResetWrapper(counting(space)))
    env.reset()
    for _ in range(sum(script.steps for script in EPISODES)):
        env.step(1)
    assert_all_recorded(env, space)


@pytest.mark.skipif(not hasattr(gym.wrappers, "AutoResetWrapper"), reason="this gymnasium does not have the wrapper")
def test_statistics_around_an_environment_that_resets_itself_in_the_same_step():
    """They are of the episode that ended."""
    cartpole = gym.wrappers.AutoResetWrapper(gym.make("CartPole-v1"))
    env = BufferingEnvWrapper(gym.wrappers.RecordEpisodeStatistics(cartpole))
    env.reset(seed=0)
    for _ in range(100):
        env.step(0)
    trajectories, lengths = env.pop_finished_trajectories()
    assert [each.infos[-1]["episode"]["l"][0] for each in trajectories] == lengths
    assert [each.episode.reset_info for each in trajectories] == [{}] * len(trajectories)


@pytest.mark.skipif(not hasattr(gym.wrappers, "AutoResetWrapper"), reason="this gymnasium does not have the wrapper")
def test_a_time_limit_around_an_environment_that_resets_itself():
    """It ends episodes that the wrapper inside does not: these wait to be reset."""
    env = BufferingEnvWrapper(gym.wrappers.TimeLimit(gym.wrappers.AutoResetWrapper(counting()), 2))
    play(env, 2)
    first, second = env.pop_trajectories()[0]
    assert_same(first.obs, batch_of(SPACES["box"], [10, 11, 12]))
    assert (first.truncated, first.terminated) == (True, False)
    assert_same(second.obs, batch_of(SPACES["box"], [30, 31, 32]))


def test_a_step_that_fails():
    base = counting()
    env = BufferingEnvWrapper(base)
    env.reset()
    env.step(1)
    base.fail_next = True
    with pytest.raises(ScriptedError):
        env.step(1)
    with pytest.raises(ProtocolError, match="reset"):
        env.step(1)
    assert (env.stepped, env.held, len(env.pop_trajectories()[0])) == (1, 1, 1)
    env.reset()
    env.step(1)
    assert (env.stepped, env.held) == (2, 1)


def test_a_monitor_that_refuses_early_resets():
    """Nothing was reset, so the episode goes on."""
    env = BufferingEnvWrapper(Monitor(counting(), allow_early_resets=False), error_on_premature_reset=False)
    env.reset()
    env.step(1)
    with pytest.raises(RuntimeError, match="early"):
        env.reset()
    env.step(1)
    env.step(1)
    (trajectory,) = env.pop_trajectories()[0]
    assert_same(trajectory.obs, batch_of(SPACES["box"], range(10, 14)))
    assert trajectory.episode.ended_by == "terminated"


def test_a_reset_that_fails_ends_the_recording_until_the_next_one():
    """What the environment does after it is no neighbour of what it did before."""

    class Failing(gym.Wrapper):
        fails = False

        def reset(self, **kwargs):
            returned = self.env.reset(**kwargs)
            if self.fails:
                raise ScriptedError("of the test")
            return returned

    env = BufferingEnvWrapper(Failing(counting()), error_on_premature_reset=False)
    env.reset()
    env.step(1)
    env.env.fails = True
    with pytest.raises(ScriptedError):
        env.reset()
    with pytest.raises(ProtocolError, match="reset"):
        env.step(1)
    env.env.fails = False
    env.reset()
    env.step(1)
    first, second = env.pop_trajectories()[0]
    assert_same(first.obs, batch_of(SPACES["box"], [10, 11]))
    assert_same(second.obs, batch_of(SPACES["box"], [50, 51]))


class Refilling(gym.Env):
    """Fills the same arrays at every step, those in its info and in its sequences among them."""

    observation_space = spaces.Sequence(spaces.Box(0, 9, (2,)))
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.obs, self.info = (np.zeros(2, np.float32),), {"at": np.zeros(2), "deep": [{"at": np.zeros(1)}]}

    def say(self, value):
        self.obs[0][:] = self.info["at"][:] = self.info["deep"][0]["at"][:] = value
        return self.obs, self.info

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.say(0)

    def step(self, action):
        self.t += 1
        obs, info = self.say(self.t)
        return obs, 1.0, self.t == 3, False, info


def test_an_info_that_is_in_itself():
    """As where an environment that reuses its info is reset in the same step."""

    class Looping(CountingEnv):
        def step(self, action):
            *returned, info = super().step(action)
            info["list"] = [info]
            return *returned, info

    env = BufferingEnvWrapper(Looping(reuse_info=True))
    env.reset()
    env.step(0)
    env.step(0)
    first, second = env.pop_trajectories()[0][0].infos
    assert (first["t"], second["t"]) == (1, 2)
    assert first["list"][0] is first


def test_arrays_that_are_refilled_within_infos_and_objects():
    env = BufferingEnvWrapper(Refilling())
    env.reset()
    for _ in range(3):
        env.step(0)
    env.reset()
    (trajectory,) = env.pop_finished_trajectories()[0]
    assert [obs[0][0] for obs in trajectory.obs] == [0, 1, 2, 3]
    assert [info["at"][0] for info in trajectory.infos] == [1, 2, 3]
    assert [info["deep"][0]["at"][0] for info in trajectory.infos] == [1, 2, 3]
    assert trajectory.episode.reset_info["at"][0] == 0
