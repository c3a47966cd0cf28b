"""Collections from Gymnasium's vector environments, and from single ones: what is collected from a `VecEnv`, too."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from collecting import (
    FOREVER,
    assert_recorded,
    conditions,
    many_episodes,
    scripted,
    seeded,
    shuffled,
    unbiased,
)
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, async_env, sync_env

from vecrollout import (
    RolloutInfoWrapper,
    VectorBufferingWrapper,
    errors,
    generate_trajectories,
    generate_transitions,
    make_min_episodes,
    make_min_timesteps,
    policy_to_callable,
    rollout,
)
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, Scenario
from vecrollout.testing.comparison import assert_same

modes = pytest.mark.parametrize("mode", MODES)


def scenario_of(mode: str, *args: Any, **kwargs: Any) -> Scenario:
    return Scenario(*args, has_dead_calls=mode == "next_step", **kwargs)


def collect(scenario: Scenario, mode: str, sample_until: Any, seed: int = 0, **options: Any) -> Any:
    env = sync_env(scenario.env_fns(), mode)
    return generate_trajectories(scripted(scenario), env, sample_until, seeded(seed), **options)


def assert_collected(trajectories: Any, expected: Any) -> None:
    assert_recorded(trajectories, expected, reward_dtype=np.float64, sees_both=True)


@modes
class TestGenerateTrajectories:
    @given(many_episodes, conditions, st.integers(0, 100))
    def test_no_bias_towards_short_episodes(self, mode, episodes, sample_until, seed) -> None:
        scenario = scenario_of(mode, episodes=episodes)
        trajectories = collect(scenario, mode, sample_until, seed)
        assert_collected(trajectories, shuffled(unbiased(scenario, sample_until), seeded(seed)))

    def test_as_from_a_vec_env(self, mode) -> None:
        """Episodes of one length end at the same calls under all rules."""
        scenario = scenario_of(mode, episodes=[[EpisodeScript(3), EpisodeScript(3, "truncated")]] * 3)
        theirs = generate_trajectories(
            scripted(scenario), DummyVecEnv(scenario.env_fns()), make_min_episodes(3), seeded(1)
        )
        ours = collect(scenario, mode, make_min_episodes(3), 1)
        assert len(ours) == len(theirs) == 3
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine.obs, other.obs)
            assert_same(mine.acts, other.acts)
            assert mine.rews.tolist() == other.rews.tolist()
            assert (mine.terminated, mine.truncated) == (other.terminated, other.truncated)
            assert mine.episode.env_index == other.episode.env_index

    @pytest.mark.parametrize("space", SPACES)
    def test_spaces(self, mode, space) -> None:
        scenario = scenario_of(mode, space)
        trajectories = collect(scenario, mode, make_min_episodes(6))
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(6)), seeded()))

    @pytest.mark.parametrize("action_space", [name for name in SPACES if name != "text"])
    def test_action_spaces(self, mode, action_space) -> None:
        scenario = scenario_of(mode, action_space=action_space)
        trajectories = collect(scenario, mode, make_min_episodes(6))
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(6)), seeded()))

    @pytest.mark.parametrize("action_space", SPACES)
    def test_random_actions(self, mode, action_space) -> None:
        scenario = scenario_of(mode, action_space=action_space)
        first, again, other = (
            generate_trajectories(None, sync_env(scenario.env_fns(), mode), make_min_episodes(6), seeded(seed))
            for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other

    def test_random_actions_as_in_a_vec_env(self, mode) -> None:
        scenario = scenario_of(mode)
        acts = [
            policy_to_callable(None, env, rng=seeded(3))(np.zeros((3, 3)), None, None)[0]
            for env in (sync_env(scenario.env_fns(), mode), DummyVecEnv(scenario.env_fns()))
        ]
        assert_same(*acts)

    @pytest.mark.parametrize("space", ["box", "dict", "text"])
    def test_what_the_policy_gets(self, mode, space) -> None:
        """Rows of numbers that go on by one, unless an episode starts; the last observations under next-step only."""
        scenario = scenario_of(mode, space)
        got = []

        def policy(observations, states, episode_starts):
            got.append((numbers(observations), states, episode_starts.tolist()))
            return scenario.actions(len(got) - 1), (np.array([len(got)]),)

        generate_trajectories(policy, sync_env(scenario.env_fns(), mode), make_min_episodes(9), seeded())
        assert [states is None or states[0].item() for _, states, _ in got] == [True, *range(1, len(got))]
        for env, scripts in enumerate(scenario.episodes):
            expected = []
            for episode, script in zip(itertools.count(), itertools.cycle(scripts)):
                zero = 50 * env + 4 * episode
                steps = script.steps + (mode == "next_step")
                expected += [(zero + t, t == 0) for t in range(steps)]
                if len(expected) >= len(got):
                    break
            assert [(rows[env], starts[env]) for rows, _, starts in got] == expected[: len(got)]

    @pytest.mark.parametrize("copy", [True, False])
    def test_copies_or_not(self, mode, copy) -> None:
        scenario = scenario_of(mode, "dict")
        env = sync_env(scenario.env_fns(), mode, copy=copy)
        trajectories = generate_trajectories(scripted(scenario), env, make_min_episodes(7), seeded())
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(7)), seeded()))

    def test_processes(self, mode) -> None:
        scenario = scenario_of(mode)
        env = async_env(scenario.env_fns(), mode)
        try:
            trajectories = generate_trajectories(scripted(scenario), env, make_min_episodes(7), seeded())
        finally:
            env.close()
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(7)), seeded()))

    def test_around_a_recorder_of_the_users_own(self, mode) -> None:
        scenario = scenario_of(mode)
        env = VectorBufferingWrapper(sync_env(scenario.env_fns(), mode))
        trajectories = generate_trajectories(scripted(scenario), env, make_min_episodes(4), seeded())
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(4)), seeded()))
        assert env.held >= sum(map(len, trajectories))
        with pytest.raises(errors.PrematureResetError):
            generate_trajectories(scripted(scenario), env, make_min_episodes(1), seeded())

    def test_the_environments_stay_open(self, mode) -> None:
        scenario = scenario_of(mode, episodes=[[EpisodeScript(3)]])
        env = sync_env(scenario.env_fns(), mode)
        generate_trajectories(scripted(scenario), env, make_min_episodes(1), seeded())
        gc.collect()
        assert not env.closed
        obs, *_ = env.step(scenario.actions(0))
        # The second episode counts from 4; only under the next-step rule has it not begun yet.
        assert obs[0, 0] == (4 if mode == "next_step" else 5)

    def test_an_sb3_policy(self, mode) -> None:
        env = sync_env([lambda: gym.make("CartPole-v1")] * 2, mode)
        env.reset(seed=0)
        expert = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
        trajectories = generate_trajectories(
            expert, env, make_min_timesteps(60), seeded(), deterministic_policy=True, exact=True
        )
        assert sum(map(len, trajectories)) == 60
        for each in trajectories:
            assert_same(each.acts, expert.predict(each.obs[:-1], deterministic=True)[0])

    def test_an_sb3_policy_for_other_spaces(self, mode) -> None:
        expert = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
        env = sync_env(Scenario().env_fns(), mode)
        with pytest.raises(errors.SpaceMismatchError, match="Observation spaces"):
            generate_trajectories(expert, env, make_min_episodes(1), seeded())

    def test_actions_of_another_shape(self, mode) -> None:
        env = sync_env(Scenario().env_fns(), mode)
        with pytest.raises(errors.ShapeError, match=r"acts: expected shape \(3,\)"):
            generate_trajectories(lambda *_: (np.zeros((3, 1), int), None), env, make_min_episodes(1), seeded())


def numbers(observations: Any) -> list[int]:
    if isinstance(observations, dict):
        observations = observations["level"]
    return [int(np.ravel(each)[0]) if isinstance(each, np.ndarray) else int(each) for each in observations]


@modes
class TestHowMuch:
    @given(many_episodes, conditions, st.integers(0, 100))
    def test_exact_is_the_beginning_of_the_same_collection(self, mode, episodes, sample_until, seed) -> None:
        scenario = scenario_of(mode, episodes=episodes)
        more, exact = (collect(scenario, mode, sample_until, seed, exact=exact) for exact in (False, True))
        assert exact == sample_until.exactly(more)

    def test_max_steps(self, mode) -> None:
        scenario = scenario_of(mode, episodes=[[EpisodeScript(3)], [FOREVER], [EpisodeScript(2)]])
        with pytest.warns(UserWarning, match="max_steps=7, before sample_until had enough"):
            kept = collect(scenario, mode, make_min_episodes(100), max_steps=7)
        runs = scenario.recorded(0, 7)
        finished, running = [run for run in runs if run.terminal], [run for run in runs if not run.terminal]
        assert_collected(kept, shuffled(finished, seeded()) + running)
        with pytest.warns(UserWarning, match="dropped"):
            dropped = collect(scenario, mode, make_min_episodes(100), max_steps=7, unfinished="drop")
        assert_collected(dropped, shuffled(finished, seeded()))

    def test_transitions(self, mode) -> None:
        scenario = scenario_of(mode)
        env = sync_env(scenario.env_fns(), mode)
        transitions = generate_transitions(scripted(scenario), env, 17, seeded())
        assert len(transitions) == 17
        # Nothing joins an episode's end to another's start.
        assert (transitions.next_obs[:, 0] - transitions.obs[:, 0]).tolist() == [1] * 17


@modes
class TestRollout:
    def test_as_it_is(self, mode) -> None:
        scenario = scenario_of(mode)
        env = sync_env(scenario.env_fns(), mode)
        trajectories = rollout(scripted(scenario), env, make_min_episodes(5), seeded(4), unwrap=False)
        expected = shuffled(unbiased(scenario, make_min_episodes(5)), seeded(4))
        assert [each.infos for each in trajectories] == [None] * len(expected)
        assert_same([each.obs for each in trajectories], [each.obs for each in expected])

    def test_unwrapping(self, mode) -> None:
        env = sync_env([lambda: RolloutInfoWrapper(CountingEnv())] * 2, mode)
        with pytest.raises(errors.OptionError, match="unwrap"):
            rollout(None, env, make_min_episodes(1), seeded())


class Untagged(gym.vector.VectorEnv):
    """A next-step engine of somebody's own, which does not say so."""

    metadata: dict[str, Any] = {}  # noqa: RUF012  # as gymnasium declares it

    def __init__(self) -> None:
        self.num_envs = 2
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (), np.float64)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed=None, options=None):
        self.t = np.zeros(2)
        return self.t.copy(), {}

    def step(self, actions):
        self.t = np.where(self.t == 2, 0, self.t + 1)
        return self.t.copy(), self.t.copy(), self.t == 2, np.zeros(2, bool), {}

    def close_extras(self, **kwargs):
        pass


class TestAnEngineThatDoesNotSayItsRule:
    def test_is_refused(self) -> None:
        with pytest.raises(errors.OptionError, match="autoreset_mode="):
            generate_trajectories(None, Untagged(), make_min_episodes(1), seeded())

    def test_named(self) -> None:
        trajectories = generate_trajectories(
            None, Untagged(), make_min_episodes(4), seeded(), autoreset_mode="next_step"
        )
        assert [each.obs.tolist() for each in trajectories] == [[0, 1, 2]] * 4

    def test_named_to_a_recorder_of_the_users_own(self) -> None:
        env = VectorBufferingWrapper(Untagged(), autoreset_mode="next_step")
        transitions = generate_transitions(None, env, 8, seeded())
        assert transitions.obs.tolist() == [0, 1] * 4

    @pytest.mark.parametrize(
        ("option", "value"),
        [("autoreset_mode", "next_step"), ("missing_final_obs", "raise"), ("final_obs_fn", lambda infos: None)],
    )
    def test_for_an_environment_of_another_kind(self, option, value) -> None:
        # A VecEnv may lack last observations, too.
        for env in [CountingEnv()] + [DummyVecEnv([CountingEnv])] * (option != "missing_final_obs"):
            with pytest.raises(errors.OptionError, match=option):
                generate_trajectories(None, env, make_min_episodes(1), seeded(), **{option: value})


class TestASingleEnvironment:
    @pytest.mark.parametrize("space", [name for name in SPACES if name != "text"])
    def test_spaces(self, space) -> None:
        scenario = Scenario(space, episodes=[[EpisodeScript(3), EpisodeScript(2, "truncated"), EpisodeScript(1)]])
        (env_fn,) = scenario.env_fns()
        trajectories = generate_trajectories(scripted(scenario), env_fn(), make_min_episodes(4), seeded())
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_episodes(4)), seeded()))

    @pytest.mark.parametrize("action_space", SPACES)
    def test_action_spaces(self, action_space) -> None:
        scenario = Scenario(action_space=action_space, episodes=[[EpisodeScript(3)]])
        (env_fn,) = scenario.env_fns()
        trajectories = generate_trajectories(scripted(scenario), env_fn(), make_min_timesteps(4), seeded())
        assert_collected(trajectories, shuffled(unbiased(scenario, make_min_timesteps(4)), seeded()))

    def test_actions_are_elements_of_the_space(self) -> None:
        class Picky(CountingEnv):
            def step(self, action):
                assert self.action_space.contains(action)
                return super().step(action)

        # As in Gymnasium's vector environments, a number is no array of no dimensions.
        for action_space in SPACES.keys() - {"box_scalar"}:
            generate_trajectories(None, Picky(action_space=action_space), make_min_episodes(2), seeded())

    def test_unwraps(self) -> None:
        env = gym.wrappers.TransformReward(RolloutInfoWrapper(CountingEnv()), lambda rew: 0.0)
        trajectories = rollout(None, env, make_min_episodes(2), seeded())
        assert [each.rews.tolist() for each in trajectories] == [[1.5, 2.5, 3.5]] * 2

    def test_what_the_policy_gets(self) -> None:
        got = []

        def policy(observations, states, episode_starts):
            got.append((observations["level"].tolist(), episode_starts.tolist()))
            return np.zeros(1, int), None

        generate_trajectories(policy, CountingEnv("dict", [EpisodeScript(2)]), make_min_episodes(2), seeded())
        assert got == [([0], [True]), ([1], [False])] * 2
