from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import errors, generate_trajectories, make_min_episodes, policy_to_callable
from vecrollout.testing import VEC_ENV_SPACES, CountingEnv, EpisodeScript, batch_of
from vecrollout.testing.comparison import assert_same

IMAGE = spaces.Box(0, 255, (36, 48, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)


def venv_of(space="box", action_space="discrete", num_envs=2) -> DummyVecEnv:
    return DummyVecEnv([lambda: CountingEnv(space, action_space=action_space)] * num_envs)


def acts_of(act, obs, times=1):
    return [act(obs, None, np.ones(2, bool))[0] for _ in range(times)]


class TestRandom:
    @pytest.mark.parametrize("action_space", VEC_ENV_SPACES)
    @pytest.mark.parametrize("rng", [None, 7])
    def test_samples_an_action_for_each_environment(self, action_space, rng) -> None:
        venv = venv_of(action_space=action_space)
        act = policy_to_callable(None, venv, rng=None if rng is None else np.random.default_rng(rng))
        acts, states = act(venv.reset(), None, None)
        expected = batch_of(venv.action_space, [0, 0])
        assert states is None
        # A batch of the space's elements: same structure, shapes and dtypes.
        assert_same(_zeros(acts), _zeros(expected))

    @pytest.mark.parametrize("space", VEC_ENV_SPACES)
    def test_counts_the_rows_of_observations_of_any_structure(self, space) -> None:
        venv = venv_of(space, num_envs=3)
        acts, _ = policy_to_callable(None, venv)(venv.reset(), None, None)
        assert acts.shape == (3,)

    def test_without_rng_from_the_action_space_itself(self) -> None:
        venv = venv_of()
        venv.action_space.seed(3)
        (acts,) = acts_of(policy_to_callable(None, venv), venv.reset())
        venv.action_space.seed(3)
        assert acts.tolist() == [venv.action_space.sample(), venv.action_space.sample()]

    def test_with_rng_reproducible(self) -> None:
        venv = venv_of()
        obs = venv.reset()
        first, again, other = (
            acts_of(policy_to_callable(None, venv, rng=np.random.default_rng(seed)), obs, times=5) for seed in (1, 1, 2)
        )
        assert_same(first, again)
        assert not np.array_equal(first, other)

    def test_with_rng_every_use_of_it_gives_other_actions(self) -> None:
        venv = venv_of()
        rng = np.random.default_rng(1)
        first, second = (acts_of(policy_to_callable(None, venv, rng=rng), venv.reset(), times=5) for _ in range(2))
        assert not np.array_equal(first, second)

    def test_with_rng_neither_its_stream_nor_the_action_space_is_used(self) -> None:
        venv = venv_of()
        venv.action_space.seed(3)
        rng = np.random.default_rng(1)
        acts_of(policy_to_callable(None, venv, rng=rng), venv.reset(), times=5)
        assert rng.bit_generator.state == np.random.default_rng(1).bit_generator.state
        used = venv.action_space.sample()
        venv.action_space.seed(3)
        assert used == venv.action_space.sample()

    @pytest.mark.parametrize("rng", [np.random.RandomState(0), 0])
    def test_an_rng_of_another_kind(self, rng) -> None:
        with pytest.raises(errors.ArgumentTypeError, match=r"rng: .*np\.random\.default_rng"):
            policy_to_callable(None, venv_of(), rng=rng)

    def test_deterministic_means_nothing(self) -> None:
        policy_to_callable(None, venv_of(), deterministic_policy=True)


def _zeros(tree):
    if isinstance(tree, dict):
        return {key: _zeros(value) for key, value in tree.items()}
    return tuple(map(_zeros, tree)) if isinstance(tree, tuple) else np.zeros_like(tree)


class TestSB3:
    def test_deterministic(self) -> None:
        venv = venv_of(VECTOR, spaces.Discrete(100))
        algorithm = A2C("MlpPolicy", venv, seed=0)
        obs = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
        expected, _ = algorithm.predict(obs, deterministic=True)
        for policy in (algorithm, algorithm.policy):
            act = policy_to_callable(policy, venv, deterministic_policy=True)
            for acts in acts_of(act, obs, times=5):
                assert_same(acts, expected)

    def test_stochastic(self) -> None:
        venv = venv_of(VECTOR, spaces.Discrete(100))
        algorithm = A2C("MlpPolicy", venv, seed=0)
        for policy in (algorithm, algorithm.policy):
            acts = acts_of(policy_to_callable(policy, venv), venv.reset(), times=20)
            assert len({tuple(each) for each in acts}) > 1

    @pytest.mark.parametrize("kind", [PPO, DQN])
    def test_other_algorithms(self, kind) -> None:
        venv = venv_of(VECTOR, spaces.Discrete(2))
        (acts,) = acts_of(policy_to_callable(kind("MlpPolicy", venv), venv), venv.reset())
        assert acts.shape == (2,)


class TestRecurrent:
    @pytest.mark.parametrize("of", ["algorithm", "policy"])
    def test_remembers_within_an_episode_and_forgets_between(self, of) -> None:
        contrib = pytest.importorskip("sb3_contrib")
        scripts = (EpisodeScript(4), EpisodeScript(2, "truncated"), EpisodeScript(7))
        shifted = [scripts, scripts[1:] + scripts[:1], scripts[2:]]
        box, acts = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
        venv = DummyVecEnv([lambda each=each: CountingEnv(box, each, action_space=acts) for each in shifted])
        # Actions straight from the memory, and by weights of a size that makes it show.
        direct = {"net_arch": [], "ortho_init": False, "lstm_hidden_size": 8}
        model = contrib.RecurrentPPO("MlpLstmPolicy", venv, seed=0, policy_kwargs=direct)
        policy = model if of == "algorithm" else model.policy
        trajectories = generate_trajectories(
            policy, venv, make_min_episodes(12), np.random.default_rng(0), deterministic_policy=True
        )
        assert {len(each) for each in trajectories} == {2, 4, 7}
        for trajectory in trajectories:
            # Alone, from the start of its episode, the same policy has to act the same.
            states, alone, memoryless = None, [], []
            for t, obs in enumerate(trajectory.obs[:-1]):
                acts, states = model.predict(obs[None], states, np.array([t == 0]), deterministic=True)
                alone.append(acts[0])
                memoryless.append(model.predict(obs[None], deterministic=True)[0][0])
            np.testing.assert_allclose(trajectory.acts, alone, rtol=1e-4, atol=1e-6)
            assert np.abs(trajectory.acts - memoryless)[1:].max() > 1e-2


class TestCallable:
    def test_is_used_as_it_is(self) -> None:
        def act(observations, states, episode_starts):
            return np.zeros(2, int), None

        assert policy_to_callable(act, venv_of()) is act

    def test_deterministic(self) -> None:
        with pytest.raises(errors.OptionError, match=r"Cannot set deterministic_policy=True.*callable.*is ignored\."):
            policy_to_callable(lambda *_: (np.zeros(2, int), None), venv_of(), deterministic_policy=True)

    @pytest.mark.parametrize(
        ("policy", "takes"),
        [
            (lambda obs: np.zeros(2, int), r"\(obs\)"),
            (lambda obs, states: (np.zeros(2, int), None), r"\(obs, states\)"),
            (lambda obs, states, starts, masks: (np.zeros(2, int), None), r"\(obs, states, starts, masks\)"),
            (lambda obs, *, states, starts: (np.zeros(2, int), None), r"\(obs, \*, states, starts\)"),
        ],
    )
    def test_that_takes_other_arguments(self, policy, takes):
        expected = r"policy: expected a function \(observations, states, episode_starts\) -> \(actions, states\), got"
        with pytest.raises(errors.PolicyError, match=f"{expected} one that takes {takes}; wrap it"):
            policy_to_callable(policy, venv_of())
        with pytest.raises(errors.PolicyError, match=expected):
            generate_trajectories(policy, venv_of(), make_min_episodes(1), np.random.default_rng(0))

    @pytest.mark.parametrize("policy", ["expert", 3, np.zeros(2)])
    def test_none_of_these(self, policy) -> None:
        with pytest.raises(errors.PolicyError, match=rf"Policy must be None, .*got {type(policy)} instead"):
            policy_to_callable(policy, venv_of())


class TestSpaceMismatch:
    def algorithm(self, space, policy="MlpPolicy"):
        return A2C(policy, venv_of(space, spaces.Discrete(4)), device="cpu")

    def test_same_spaces(self) -> None:
        policy_to_callable(self.algorithm(VECTOR), venv_of(VECTOR, spaces.Discrete(4)))

    def test_observations(self) -> None:
        with pytest.raises(errors.SpaceMismatchError, match="Observation spaces do not match") as raised:
            policy_to_callable(self.algorithm(VECTOR), venv_of(IMAGE, spaces.Discrete(4)))
        assert "channels" not in str(raised.value)

    def test_images_of_other_sizes(self) -> None:
        other = spaces.Box(0, 255, (48, 36, 3), np.uint8)
        with pytest.raises(errors.SpaceMismatchError, match="Observation spaces do not match") as raised:
            policy_to_callable(self.algorithm(IMAGE, policy="CnnPolicy"), venv_of(other, spaces.Discrete(4)))
        assert "channels" not in str(raised.value)

    def test_actions(self) -> None:
        with pytest.raises(errors.SpaceMismatchError, match="Action spaces do not match"):
            policy_to_callable(self.algorithm(VECTOR), venv_of(VECTOR, spaces.Discrete(5)))

    def test_channel_order(self) -> None:
        """SB3 wraps an environment with images by itself, and only the algorithm knows."""
        algorithm = self.algorithm(IMAGE, policy="CnnPolicy")
        with pytest.raises(errors.SpaceMismatchError, match="Observation spaces do not match") as raised:
            policy_to_callable(algorithm, venv_of(IMAGE, spaces.Discrete(4)))
        message = str(raised.value)
        assert "the policy expects channels-first (3, 36, 48)" in message
        assert "the environments return channels-last (36, 48, 3)" in message
        assert "expert.get_env()" in message
        policy_to_callable(algorithm, algorithm.get_env())

    def test_channel_order_the_other_way_round(self) -> None:
        """What is not of 8-bit integers is no image to SB3, and stays as it is."""
        last, first = (spaces.Box(0, 1, shape, np.float32) for shape in ((36, 48, 3), (3, 36, 48)))
        with pytest.raises(errors.SpaceMismatchError) as raised:
            policy_to_callable(self.algorithm(last), venv_of(first, spaces.Discrete(4)))
        message = str(raised.value)
        assert "the policy expects channels-last (36, 48, 3)" in message
        assert "the environments return channels-first (3, 36, 48)" in message

    def test_channel_order_in_dicts(self) -> None:
        space = spaces.Dict({"camera": IMAGE, "position": VECTOR})
        algorithm = self.algorithm(space, policy="MultiInputPolicy")
        with pytest.raises(errors.SpaceMismatchError) as raised:
            policy_to_callable(algorithm, venv_of(space, spaces.Discrete(4)))
        message = str(raised.value)
        assert "obs['camera']: the policy expects channels-first (3, 36, 48)" in message
        assert "obs['position']" not in message
