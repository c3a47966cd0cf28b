"""Engines that step many environments at once, and speak Gymnasium's protocol in their own way."""

from __future__ import annotations

import contextlib

import gymnasium as gym
import numpy as np
import pytest
from vector_envs import HAS_MODES, IS_VERSION_0

from vecrollout import VectorBufferingWrapper
from vecrollout.errors import EmptyBufferError, PrematureResetError, ProtocolError
from vecrollout.testing import assert_same

NUM_ENVS = 5
CALLS = 80


def assert_follows_the_equations_of_motion(trajectory):
    """Each observation of a cart-pole follows from the one before and the force; none is another episode's.

    Source:
        Barto, Sutton & Anderson (1983), with the constants of Gymnasium's `CartPole-v1`.
    """
    x, v, angle, spin = np.asarray(trajectory.obs, dtype=np.float64)[:-1].T
    force = np.where(np.asarray(trajectory.acts) == 1, 10.0, -10.0)
    pull = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
    spin_up = (9.8 * np.sin(angle) - np.cos(angle) * pull) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
    speed_up = pull - 0.05 * spin_up * np.cos(angle) / 1.1
    following = np.stack([x + 0.02 * v, v + 0.02 * speed_up, angle + 0.02 * spin, spin + 0.02 * spin_up], axis=1)
    assert np.allclose(trajectory.obs[1:], following, atol=1e-4)
    assert np.abs(trajectory.obs[0]).max() <= 0.05
    assert trajectory.episode.start_step == 0
    assert trajectory.rews.tolist() == [1.0] * len(trajectory)


def has_fallen(obs):
    return abs(obs[0]) > 2.4 or abs(obs[2]) > 12 * np.pi / 180


class Log:
    """Episodes put together by hand from what an engine with next-step autoreset returned."""

    def __init__(self, num_envs):
        self.running = [None] * num_envs
        self.over = [True] * num_envs
        self.finished = []

    def add(self, env, action, obs, rew, terminated, truncated):
        if self.over[env]:
            self.running[env] = ([obs], [], [])
        else:
            for column, value in zip(self.running[env], (obs, action, rew), strict=True):
                column.append(value)
        self.over[env] = bool(terminated or truncated)
        if self.over[env]:
            self.finished.append((env, *map(np.array, self.running[env]), bool(terminated), bool(truncated)))
            self.running[env] = None

    def assert_recorded_as(self, trajectories):
        assert len(trajectories) == len(self.finished) > NUM_ENVS
        for trajectory, (env, obs, acts, rews, terminated, truncated) in zip(trajectories, self.finished, strict=True):
            assert trajectory.episode.env_index == env
            assert_same(trajectory.obs, obs)
            assert_same(trajectory.acts, acts)
            assert np.array_equal(trajectory.rews, rews)
            assert (trajectory.terminated, trajectory.truncated) == (terminated, truncated)

    @property
    def steps(self):
        """Of the episodes that are running."""
        return sum(len(run[1]) for run in self.running if run is not None)


# EnvPool


def pool(**options):
    envpool = pytest.importorskip("envpool")
    return envpool.make("CartPole-v1", env_type="gymnasium", num_envs=NUM_ENVS, seed=3, **options)


# It says its rule from gymnasium 1.1 on, which has words for it.
POOL_RULE = None if HAS_MODES else "next_step"

envpool_test = pytest.mark.filterwarnings("ignore:.*precision lowered by casting")


@envpool_test
@pytest.mark.parametrize("limit", [500, 9])
def test_envpool(limit):
    """All environments together; episodes end by a fall or by the limit."""
    recorder = VectorBufferingWrapper(pool(max_episode_steps=limit), autoreset_mode=POOL_RULE)
    rng, log = np.random.default_rng(0), Log(NUM_ENVS)
    obs, _ = recorder.reset()
    for env in range(NUM_ENVS):
        log.add(env, None, obs[env].copy(), 0, False, False)
    for _ in range(CALLS):
        acts = rng.integers(0, 2, NUM_ENVS)
        obs, rews, terminated, truncated, _ = recorder.step(acts)
        for env in range(NUM_ENVS):
            log.add(env, acts[env], obs[env].copy(), rews[env], terminated[env], truncated[env])
    trajectories, lengths = recorder.pop_finished_trajectories()
    log.assert_recorded_as(trajectories)
    for trajectory, length in zip(trajectories, lengths, strict=True):
        assert_follows_the_equations_of_motion(trajectory)
        assert length == len(trajectory)
        assert trajectory.truncated == (length == limit)
        # EnvPool does not say that an episode was at its limit and over as well.
        assert trajectory.terminated == (has_fallen(trajectory.obs[-1]) and length < limit)
        assert [info["elapsed_step"] for info in trajectory.infos] == list(range(1, length + 1))
    assert (recorder.held, recorder.dropped) == (log.steps, 0)
    assert recorder.stepped == recorder.popped + recorder.held


@envpool_test
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_envpool_some_environments_at_a_time(batch_size):
    """Which ones, the infos say; each goes on where it stood."""
    recorder = VectorBufferingWrapper(pool(batch_size=batch_size, num_threads=2), autoreset_mode=POOL_RULE)
    rng, log = np.random.default_rng(0), Log(NUM_ENVS)
    taken = [None] * NUM_ENVS
    recorder.async_reset()
    for _ in range(CALLS * NUM_ENVS // batch_size):
        obs, rews, terminated, truncated, infos = recorder.recv()
        env_id = infos["env_id"].copy()
        for at, env in enumerate(env_id):
            log.add(env, taken[env], obs[at].copy(), rews[at], terminated[at], truncated[at])
        acts = rng.integers(0, 2, batch_size)
        for env, act in zip(env_id, acts, strict=True):
            taken[env] = act
        recorder.send(acts, env_id)
    trajectories, _ = recorder.pop_finished_trajectories()
    order = [(each.episode.env_index, len(each)) for each in trajectories]
    assert order == [(env, len(acts)) for env, _, acts, *_ in log.finished]
    log.assert_recorded_as(trajectories)
    for trajectory in trajectories:
        assert_follows_the_equations_of_motion(trajectory)
        assert trajectory.terminated
    assert (recorder.held, recorder.dropped) == (log.steps, 0)
    assert recorder.stepped == recorder.popped + recorder.held
    running = recorder.pop_trajectories()[0]
    assert [len(each) for each in running] == [len(run[1]) for run in log.running if run and run[1]]


@envpool_test
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_envpool_annotations_and_discards_of_some_environments(batch_size):
    recorder = VectorBufferingWrapper(pool(batch_size=batch_size, num_threads=2), autoreset_mode=POOL_RULE)
    recorder.async_reset()
    rng, discarded = np.random.default_rng(0), 0
    for call in range(CALLS * NUM_ENVS // batch_size):
        obs, *_, infos = recorder.recv()
        env_id = infos["env_id"].copy()
        recorder.annotate(env_id, seen=obs, env=env_id)
        recorder.send(rng.integers(0, 2, batch_size), env_id)
        if call % 50 == 49:
            with contextlib.suppress(EmptyBufferError):
                discarded += recorder.discard_episode(call // 50 % NUM_ENVS)
    trajectories, lengths = recorder.pop_trajectories()
    assert trajectories
    assert discarded > 0
    for trajectory in trajectories:
        assert_follows_the_equations_of_motion(trajectory)
        assert trajectory.episode.start_step == 0
        np.testing.assert_array_equal(np.stack([info["seen"] for info in trajectory.infos]), trajectory.obs[:-1])
        assert {info["env"] for info in trajectory.infos} == {trajectory.episode.env_index}
    assert lengths == [len(each) for each in trajectories if each.terminal]
    assert (recorder.dropped, recorder.held) == (discarded, 0)
    assert recorder.stepped == recorder.popped + recorder.dropped


@envpool_test
def test_envpool_reset_while_transitions_are_held():
    recorder = VectorBufferingWrapper(pool(batch_size=2), autoreset_mode=POOL_RULE)
    with pytest.raises(ProtocolError, match="reset"):
        recorder.recv()
    recorder.async_reset()
    for _ in range(10):
        env_id = recorder.recv()[-1]["env_id"].copy()
        recorder.send(np.ones(2, np.int64), env_id)
    assert recorder.held > 0
    with pytest.raises(PrematureResetError):
        recorder.async_reset()


# ALE


def atari(mode):
    vector_env = pytest.importorskip("ale_py.vector_env")
    return vector_env.AtariVectorEnv("pong", NUM_ENVS, max_num_frames_per_episode=60, autoreset_mode=mode)


def atari_episodes(mode, count=3):
    """The first episodes of each environment, under a policy of environment and step."""
    recorder = VectorBufferingWrapper(atari(mode))
    recorder.reset(seed=11)
    finished = [[] for _ in range(NUM_ENVS)]
    t, over = np.zeros(NUM_ENVS, int), np.zeros(NUM_ENVS, bool)
    while min(map(len, finished)) < count:
        _, _, terminated, truncated, _ = recorder.step((np.arange(NUM_ENVS) + 2 * t) % 6)
        dones = terminated | truncated
        t = np.where(dones | over, 0, t + 1)
        over = dones & (mode == "NextStep")
        for trajectory in recorder.pop_finished_trajectories()[0]:
            finished[trajectory.episode.env_index].append(trajectory)
    assert recorder.dropped == 0
    return finished


@pytest.mark.skipif(not HAS_MODES, reason="ALE's vector environment needs a later gymnasium")
def test_ale_under_both_of_its_rules():
    """With the same step, last observations come in an array with a row for every environment."""
    for next_step, same_step in zip(atari_episodes("NextStep"), atari_episodes("SameStep"), strict=True):
        for k, (one, other) in enumerate(zip(next_step[:3], same_step[:3], strict=True)):
            env = one.episode.env_index
            acts = (env + 2 * np.arange(len(one))) % 6
            for trajectory in (one, other):
                assert_same(trajectory.acts, acts)
                assert trajectory.truncated
                assert trajectory.episode.seed == (11 + env if k == 0 else None)
            assert one.obs.dtype == np.uint8
            assert one.obs.shape == (len(one) + 1, 4, 84, 84)
            # The newest frame of an observation is the second newest of the one that follows.
            for trajectory in (one, other):
                assert_same(trajectory.obs[1:, :-1], trajectory.obs[:-1, 1:])
            # Later episodes begin by as many idle frames as the engine draws, differently under the two rules.
            if k == 0:
                assert_same(other.obs, one.obs)
                assert_same(other.rews, one.rews)


# Gymnasium's own


@pytest.mark.skipif(not HAS_MODES, reason="it does not say its rule")
def test_functional_cartpole():
    """One environment that holds the states of all: `make_vec` by the environment's vector entry point."""
    env = gym.make_vec("CartPole-v1", NUM_ENVS, vectorization_mode="vector_entry_point", max_episode_steps=9)
    recorder = VectorBufferingWrapper(env)
    rng, log = np.random.default_rng(0), Log(NUM_ENVS)
    obs, _ = recorder.reset(seed=5)
    for i in range(NUM_ENVS):
        log.add(i, None, obs[i].copy(), 0, False, False)
    for _ in range(CALLS):
        acts = rng.integers(0, 2, NUM_ENVS)
        obs, rews, terminated, truncated, _ = recorder.step(acts)
        for i in range(NUM_ENVS):
            log.add(i, acts[i], obs[i].copy(), rews[i], terminated[i], truncated[i])
    trajectories, _ = recorder.pop_finished_trajectories()
    log.assert_recorded_as(trajectories)
    for trajectory in trajectories:
        assert_follows_the_equations_of_motion(trajectory)
    assert (recorder.held, recorder.dropped) == (log.steps, 0)


@pytest.mark.skipif(IS_VERSION_0, reason="there it makes environments of another, experimental kind")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_make_vec(mode):
    recorder = VectorBufferingWrapper(gym.make_vec("CartPole-v1", NUM_ENVS, vectorization_mode=mode))
    recorder.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(CALLS):
        recorder.step(rng.integers(0, 2, NUM_ENVS))
    trajectories, _ = recorder.pop_finished_trajectories()
    assert len(trajectories) > NUM_ENVS
    for trajectory in trajectories:
        assert_follows_the_equations_of_motion(trajectory)
        assert has_fallen(trajectory.obs[-1])
    recorder.close()
