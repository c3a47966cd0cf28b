"""Demonstrations by a human at the keyboard: the recorder inside `gymnasium.utils.play`."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest

from vecrollout import BufferingEnvWrapper, RolloutInfoWrapper, flatten_trajectories_with_rew, unwrap_traj
from vecrollout.testing import assert_same

pytest.importorskip("pygame")
pytestmark = pytest.mark.filterwarnings(
    # pygame's own, and those of what it is built on.
    "ignore::DeprecationWarning",
    "ignore:.*pkg_resources.*:UserWarning",
    "ignore:.*avx2 capable:RuntimeWarning",
)


@pytest.fixture
def play(monkeypatch):
    """`gymnasium.utils.play.play` on a screen that nobody sees."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no matplotlib, for plots
        from gymnasium.utils.play import play
    return play


class Player:
    """Presses and lets go of the key after so many steps each, and keeps what `play` tells about each step."""

    def __init__(self, presses, steps):
        self.presses = presses
        self.steps = steps
        self.seen = []

    def __call__(self, obs, next_obs, action, rew, terminated, truncated, info):
        import pygame

        first = isinstance(obs, tuple)  # what `reset` returned
        obs = obs[0] if first else obs
        self.seen.append((obs.copy(), next_obs.copy(), action, rew, terminated, truncated, first))
        if len(self.seen) in self.presses:
            kind = pygame.KEYDOWN if self.presses.index(len(self.seen)) % 2 == 0 else pygame.KEYUP
            pygame.event.post(pygame.event.Event(kind, key=pygame.K_l))
        if len(self.seen) == self.steps:
            pygame.event.post(pygame.event.Event(pygame.QUIT))


def test_a_demonstration(play):
    """Every step, in episodes, with the actions of the keys that were down; the last one was not finished."""
    env = BufferingEnvWrapper(gym.make("CartPole-v1", render_mode="rgb_array"))
    player = Player(presses=[3, 8, 14, 17, 30], steps=40)
    play(env, keys_to_action={"l": 1}, noop=0, fps=10_000, callback=player, seed=7)
    held = [step > 3 and not 8 < step <= 14 and not 17 < step <= 30 for step in range(1, 41)]
    assert [action for _, _, action, *_ in player.seen] == [int(is_held) for is_held in held]

    assert (env.stepped, env.held, env.dropped) == (40, 40, 0)
    trajectories, lengths = env.pop_trajectories()
    assert len(trajectories) > 2
    assert list(lengths) == [len(each) for each in trajectories[:-1]]
    assert [each.terminated for each in trajectories] == [True] * (len(trajectories) - 1) + [False]
    assert [each.episode.seed for each in trajectories] == [7] * len(trajectories)
    transitions = flatten_trajectories_with_rew(trajectories)
    obs, next_obs, acts, rews, terminated, truncated, first = (
        np.array(column) for column in zip(*player.seen, strict=True)
    )
    assert_same(transitions.obs, obs)
    assert_same(transitions.next_obs, next_obs)
    assert_same(transitions.acts, acts)
    assert_same(transitions.rews, rews)
    assert_same(transitions.terminated, terminated)
    assert_same(transitions.truncated, truncated)
    starts = np.cumsum([0, *map(len, trajectories[:-1])])
    assert np.flatnonzero(first).tolist() == starts.tolist()
    env.close()


def test_demonstrations_go_to_a_sink_and_keep_their_raw_data(play):
    """What the player sees may be transformed; `RolloutInfoWrapper` keeps what the environment said."""
    demonstrations = []
    raw = RolloutInfoWrapper(gym.make("CartPole-v1", render_mode="rgb_array"))
    env = BufferingEnvWrapper(gym.wrappers.FlattenObservation(Halved(raw)), sink=demonstrations)
    player = Player(presses=[4, 9], steps=30)
    play(env, keys_to_action={"l": 1}, noop=0, fps=10_000, callback=player, seed=7)
    assert len(demonstrations) > 1
    assert env.sunk + env.held == env.stepped == 30
    for trajectory in demonstrations:
        assert_same(unwrap_traj(trajectory).obs / np.float32(2), trajectory.obs)
    env.close()
    assert (env.sunk, env.held) == (30, 0)
    assert demonstrations[-1].episode.ended_by == "closed"


class Halved(gym.ObservationWrapper):
    def observation(self, observation):
        return observation / np.float32(2)
