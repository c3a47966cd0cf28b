"""Replay buffers of Stable-Baselines3: filled, compared with what SB3 itself stores, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, SAC, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from vecrollout import BufferingWrapper, TraceWriter, TrajectoryBatch, TrajectoryWithRew, open_traces
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError, StructureError
from vecrollout.interop.sb3 import from_replay_buffer, to_replay_buffer
from vecrollout.testing import CountingEnv, EpisodeScript, assert_same
from vecrollout.testing import strategies as ours

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)
TWO = spaces.Discrete(2)


def episode(steps: int, first: int = 0, *, terminated: bool = True, truncated: bool = False) -> TrajectoryWithRew:
    return TrajectoryWithRew(
        obs=np.arange(first, first + 3 * (steps + 1), dtype=np.float32).reshape(-1, 3),
        acts=np.arange(steps) % 2,
        rews=np.arange(steps, dtype=np.float32),
        infos=None,
        terminal=terminated or truncated,
        terminated=terminated,
        truncated=truncated,
    )


def assert_equal(found: Any, expected: Any) -> None:
    for name in ("obs", "acts", "rews", "terminal", "terminated", "truncated"):
        assert_same(getattr(found, name), getattr(expected, name), name)


def stored(buffer: Any) -> dict[str, Any]:
    """Everything that SB3 samples from a buffer."""
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "pos", "full")
    return {name: getattr(buffer, name) for name in names}


@pytest.mark.parametrize("normalized", [False, True])
def test_holds_what_sb3_itself_stores(normalized: bool) -> None:
    recorder = BufferingWrapper(DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=20)]))
    env = VecNormalize(recorder) if normalized else recorder
    model = SAC("MlpPolicy", env, learning_starts=1000, buffer_size=70, device="cpu", seed=0)
    model.learn(60)
    buffer = ReplayBuffer(70, recorder.observation_space, recorder.action_space, device="cpu")
    trajectories, _ = recorder.pop_trajectories()
    report = to_replay_buffer(trajectories, buffer)
    assert (report.episodes, report.steps, report.fragments) == (3, 60, 0)
    assert report.dtypes == {"acts": "scaled to [-1, 1]"}
    theirs, ours = stored(model.replay_buffer), stored(buffer)
    # SB3 clips and rounds actions, and unnormalizes what VecNormalize made of an episode's last observation.
    for name in ("actions", "next_observations"):
        np.testing.assert_allclose(ours.pop(name), theirs.pop(name), atol=1e-5)
    assert_same(ours, theirs)
    assert ours["timeouts"].sum() == 3


def test_images_are_stored_channels_first() -> None:
    image = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    env = CountingEnv(image, [EpisodeScript(4)])
    recorder = BufferingWrapper(DummyVecEnv([lambda: env]))
    model = DQN("CnnPolicy", recorder, learning_starts=1000, buffer_size=20, device="cpu")
    assert isinstance(model.get_env(), VecTransposeImage)
    model.learn(8)
    trajectories, _ = recorder.pop_trajectories()
    assert trajectories[0].obs.shape == (5, 36, 40, 3)
    buffer = ReplayBuffer(20, model.observation_space, model.action_space, device="cpu")
    to_replay_buffer(trajectories, buffer)
    assert_same(stored(buffer), stored(model.replay_buffer))
    found = from_replay_buffer(buffer)
    assert_same(found[0].obs, np.moveaxis(trajectories[0].obs, 3, 1))
    # Observations that were recorded above the transposition fit as they are.
    again = ReplayBuffer(20, model.observation_space, model.action_space, device="cpu")
    to_replay_buffer(found, again)
    assert_same(stored(again), stored(buffer))


FLAT = ours.leaf_spaces().filter(lambda space: space.shape is not None and 0 not in space.shape)
DICTS = st.dictionaries(st.sampled_from(["a", "b"]), FLAT, min_size=1).map(spaces.Dict)


@given(st.data())
@settings(max_examples=30)
def test_there_and_back(data: st.DataObject) -> None:
    obs_space = data.draw(st.one_of(FLAT, DICTS))
    act_space = data.draw(FLAT.filter(lambda space: not isinstance(space, spaces.Box)))
    episodes = data.draw(st.lists(ours.trajectories(obs_space, act_space), min_size=1, max_size=5))
    cls = DictReplayBuffer if isinstance(obs_space, spaces.Dict) else ReplayBuffer
    buffer = cls(100, obs_space, act_space, device="cpu")
    report = to_replay_buffer(episodes, buffer)
    found = from_replay_buffer(buffer)
    assert (report.episodes, report.steps) == (len(episodes), sum(map(len, episodes)))
    assert report.both_flags == sum(each.terminated and each.truncated for each in episodes)
    assert report.fragments == sum(not each.terminal or each.episode.start_step > 0 for each in episodes)
    assert ("rews" in report.dtypes) == any(each.rews.dtype != np.float32 for each in episodes)
    for each, expected in zip(found, episodes, strict=True):
        for name in ("obs", "acts"):
            assert_same(getattr(each, name), getattr(expected, name), name)
        with np.errstate(over="ignore"):
            assert_same(each.rews, expected.rews.astype(np.float32))
        assert each.terminated == expected.terminated
        # A fragment's end counts as a cut, from which SB3 bootstraps.
        assert each.truncated == (not expected.terminated)


def test_actions_are_scaled_and_scaled_back() -> None:
    space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    acts = np.array([[-2, 0], [2, 10], [0, 5], [1, 7.5]], np.float32)
    given = TrajectoryBatch.from_arrays(
        np.zeros((5, 3), np.float32), acts, np.zeros(4, np.float32), lengths=[4], terminated=[True]
    )
    buffer = ReplayBuffer(10, BOX, space, device="cpu")
    report = to_replay_buffer(given, buffer)
    np.testing.assert_array_equal(buffer.actions[:4, 0], [[-1, -1], [1, 1], [0, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(from_replay_buffer(buffer).acts, acts)
    assert repr(report) == "<ConversionReport replay buffer: 1 episodes, 4 steps; lost: acts (scaled to [-1, 1])>"


@pytest.mark.parametrize("form", ["list", "iterator", "batch", "view of a batch", "data set", "view"])
def test_takes_whatever_has_trajectories(form: str, tmp_path: Path) -> None:
    episodes = [episode(3, 0), episode(4, 100, terminated=False, truncated=True), episode(5, 200)]
    batch = TrajectoryBatch.from_trajectories(episodes)
    with TraceWriter(tmp_path) as writer:
        writer.extend(batch)
    traces = open_traces(tmp_path)
    forms = {
        "list": episodes,
        "iterator": iter(episodes),
        "batch": batch,
        "view of a batch": batch.trim(stop=99)[:],
        "data set": traces,
        "view": traces.trim(stop=99)[[0, 1, 2]],
    }
    buffer, expected = (ReplayBuffer(30, BOX, TWO, device="cpu") for _ in range(2))
    report = to_replay_buffer(forms[form], buffer)
    assert (report.episodes, report.steps) == (3, 12)
    to_replay_buffer(episodes, expected)
    assert_same(stored(buffer), stored(expected))


@pytest.mark.parametrize("n_envs", [1, 2, 3])
def test_every_transition_is_held_once_in_buffers_for_several_environments(n_envs: int) -> None:
    episodes = [episode(3, 0), episode(4, 100, terminated=False, truncated=True), episode(5, 200)]
    buffer = ReplayBuffer(30, BOX, TWO, device="cpu", n_envs=n_envs)
    report = to_replay_buffer(iter(episodes), buffer)
    assert report.steps == 12
    pairs = {(float(a), float(b)) for each in episodes for a, b in zip(each.obs[:-1, 0], each.obs[1:, 0], strict=True)}
    rows = buffer.size()
    held = zip(buffer.observations[:rows, :, 0].ravel(), buffer.next_observations[:rows, :, 0].ravel(), strict=True)
    assert sorted(held) == sorted(pairs)
    terminal = buffer.dones * (1 - buffer.timeouts)
    assert terminal.sum() == 2
    assert sum(map(len, from_replay_buffer(buffer))) == 12


def test_transitions_that_fill_no_row_are_left_out_and_reported() -> None:
    buffer = ReplayBuffer(30, BOX, TWO, device="cpu", n_envs=4)
    report = to_replay_buffer([episode(6)], buffer)
    assert report.steps == 4
    assert report.others["transitions left out"] == 2


def test_a_full_buffer_overwrites_its_oldest() -> None:
    buffer = ReplayBuffer(10, BOX, TWO, device="cpu")
    report = to_replay_buffer([episode(6), episode(7, 100)], buffer)
    assert report.others["transitions overwritten"] == 3
    first, second = from_replay_buffer(buffer)
    assert_same(first.obs, episode(6).obs[3:])
    assert_equal(second, episode(7, 100))


def test_a_gap_makes_two_fragments() -> None:
    buffer = ReplayBuffer(10, BOX, TWO, device="cpu")
    for first in (0, 50):
        obs = np.full((1, 3), first, np.float32)
        buffer.add(obs, obs + 1, np.array([1]), np.array([1.0]), np.array([False]), [{}])
    found = from_replay_buffer(buffer)
    assert found.lengths.tolist() == [1, 1]
    assert not found.terminated.any()
    assert not found.truncated.any()


def goal_trajectories(episodes: int) -> tuple[Any, list[Any]]:
    env = BufferingWrapper(DummyVecEnv([lambda: BitFlippingEnv(n_bits=3, continuous=True, max_steps=5)]))
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"copy_info_dict": True},
        learning_starts=1000,
        buffer_size=500,
        device="cpu",
        seed=0,
    )
    model.learn(5 * episodes)
    return model, env.pop_trajectories()[0]


def test_hindsight_buffers() -> None:
    model, trajectories = goal_trajectories(8)
    buffer = HerReplayBuffer(
        500, model.observation_space, model.action_space, model.get_env(), device="cpu", copy_info_dict=True
    )
    to_replay_buffer(trajectories, buffer)
    theirs, ours = stored(model.replay_buffer), stored(buffer)
    np.testing.assert_allclose(ours.pop("actions"), theirs.pop("actions"), atol=1e-6)
    assert_same(ours, theirs)
    for name in ("ep_start", "ep_length"):
        assert_same(getattr(buffer, name), getattr(model.replay_buffer, name))
    samples = buffer.sample(64)
    assert samples.rewards.shape == (64, 1)
    found = from_replay_buffer(buffer)
    for each, expected in zip(found, trajectories, strict=True):
        assert_same(each.obs, expected.obs)
        assert (each.terminated, each.truncated) == (expected.terminated, expected.truncated)


def test_fragments_can_be_sampled_from_hindsight_buffers() -> None:
    model, trajectories = goal_trajectories(2)
    buffer = HerReplayBuffer(500, model.observation_space, model.action_space, model.get_env(), device="cpu")
    first = trajectories[0]
    fragment = TrajectoryWithRew(first.obs[:2], first.acts[:1], None, terminal=False, rews=first.rews[:1])
    report = to_replay_buffer([fragment], buffer)
    assert report.fragments == 1
    assert buffer.sample(4).dones.sum() == 0


def test_buffers_without_timeouts() -> None:
    options = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    buffer = ReplayBuffer(10, BOX, TWO, device="cpu", **options)
    report = to_replay_buffer([episode(3), episode(2, 50, terminated=False, truncated=True)], buffer)
    assert report.others["truncations, which count as terminations"] == 1
    assert buffer.dones[:5, 0].tolist() == [0, 0, 1, 0, 1]
    with pytest.raises(OptionError, match="optimize_memory_usage"):
        from_replay_buffer(buffer)
    several = ReplayBuffer(10, BOX, TWO, device="cpu", n_envs=2, handle_timeout_termination=False)
    with pytest.raises(OptionError, match="n_envs=2"):
        to_replay_buffer([episode(3)], several)


def test_bad_input() -> None:
    buffer = ReplayBuffer(10, BOX, TWO, device="cpu")
    with pytest.raises(ShapeError, match="empty"):
        from_replay_buffer(buffer)
    for call in (lambda: to_replay_buffer([episode(2)], "buffer"), lambda: from_replay_buffer(3)):  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match=r"model\.replay_buffer"):
            call()
    bare = TrajectoryBatch.from_arrays(np.zeros((3, 3), np.float32), np.zeros(2, np.int64), lengths=[2])
    with pytest.raises(ArgumentTypeError, match="rewards"):
        to_replay_buffer(bare, buffer)
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        to_replay_buffer([episode(2)], ReplayBuffer(10, spaces.Box(0, 1, (4,)), TWO, device="cpu"))
    with pytest.raises(ShapeError, match="acts"):
        to_replay_buffer([episode(2)], ReplayBuffer(10, BOX, spaces.Box(-1, 1, (2,)), device="cpu"))
    with pytest.raises(StructureError, match="entries"):
        to_replay_buffer([episode(2)], DictReplayBuffer(10, spaces.Dict(a=BOX), TWO, device="cpu"))
    unbounded = ReplayBuffer(10, BOX, spaces.Box(-np.inf, np.inf, ()), device="cpu")
    with pytest.raises(OptionError, match="finite bounds"):
        to_replay_buffer([episode(2)], unbounded)
    assert buffer.size() == 0


def swing_up(obs: Any, rng: np.random.Generator) -> Any:
    """A controller of Pendulum by its energy, which errs now and then."""
    cos, sin, speed = obs.T
    torque = np.where(cos > 0.9, -12 * sin - 3 * speed, 2 * np.sign(speed * (1 - speed**2 / 6 / 10 - cos) + 1e-3))
    noise = rng.normal(0, 0.7, len(obs))
    return np.clip(torque + noise, -2, 2)[:, None].astype(np.float32)


def balance(obs: Any, rng: np.random.Generator) -> Any:
    """A controller of CartPole, whose errors are frequent in some of the environments."""
    right = (0.5 * obs[:, 2] + 0.5 * obs[:, 3] + 0.05 * obs[:, 0] + 0.1 * obs[:, 1]) > 0
    return np.where(rng.random(len(obs)) < np.linspace(0.3, 1, len(obs)), rng.integers(0, 2, len(obs)), right)


def demonstrations(env_id: str, act: Any, steps: int) -> list[Any]:
    env = BufferingWrapper(DummyVecEnv([lambda: gym.make(env_id)] * 4))
    env.seed(0)
    obs, rng = env.reset(), np.random.default_rng(0)
    for _ in range(steps // 4):
        obs, *_ = env.step(act(obs, rng))
    return env.pop_finished_trajectories()[0]


def offline(model: Any, demonstrations: list[Any]) -> Any:
    """The model with demonstrations in its replay buffer, ready to be trained without its environment."""
    to_replay_buffer(demonstrations, model.replay_buffer)
    model.set_logger(configure(None, []))
    return model


def score(model: Any) -> float:
    return float(evaluate_policy(model, model.get_env(), 10)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
def test_sac_learns_pendulum_from_demonstrations() -> None:
    network = {"net_arch": [64, 64]}
    model = SAC("MlpPolicy", "Pendulum-v1", learning_rate=1e-3, gamma=0.98, seed=0, device="cpu", policy_kwargs=network)
    offline(model, demonstrations("Pendulum-v1", swing_up, 8_000))
    before, scores = score(model), []
    for _ in range(10):
        model.train(500, 128)
        scores.append(score(model))
        if scores[-1] > -400:
            break
    assert before < -900
    assert max(scores) > -400


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
def test_dqn_learns_cartpole_from_demonstrations() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", learning_rate=1e-3, gamma=0.98, seed=0, device="cpu")
    shown = demonstrations("CartPole-v1", balance, 12_000)
    offline(model, shown)
    scores = []
    for _ in range(100):
        model.train(50, 128)
        polyak_update(model.q_net.parameters(), model.q_net_target.parameters(), 1.0)
        scores.append(score(model))
        if scores[-1] > 150:
            break
    # The demonstrations are worse, as are those of a policy that has learned nothing: about 10.
    assert max(scores) > 150 > np.mean([each.rews.sum() for each in shown])
