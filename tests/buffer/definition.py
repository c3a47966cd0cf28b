"""What a buffer of rollouts is, by plain lists: the definition that the real one is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vecrollout.testing import assert_same


@dataclass
class Fragment:
    """Steps of one episode. Observations and actions are numbers, of which a test makes arrays."""

    env: int
    id: int
    obs: list[int]
    seed: int | None = None
    reset_info: dict[str, Any] | None = None
    start_step: int = 0
    acts: list[int] = field(default_factory=list)
    rews: list[float] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    ended_by: str | None = None

    def __len__(self) -> int:
        return len(self.acts)

    def rest(self) -> Fragment:
        """The next fragment of the episode, without steps."""
        return Fragment(self.env, self.id, self.obs[-1:], self.seed, self.reset_info, self.start_step + len(self))


class Definition:
    """E environments, and lists of what they did.

    Args:
        num_envs: Number of environments, E.
        has_sink: Whether finished fragments leave at once.
        drops_early: Whether a reset drops running fragments.
        most: The most steps to hold; the oldest finished fragments make room. None: no limit.
    """

    def __init__(self, num_envs: int, has_sink: bool, drops_early: bool, most: int | None) -> None:
        self.has_sink = has_sink
        self.drops_early = drops_early
        self.most = most
        self.running: list[Fragment | None] = [None] * num_envs
        self.finished: list[Fragment] = []
        self.delivered: list[Fragment] = []
        self.counts: Counter[str] = Counter()
        self.next_id = 0

    @property
    def waiting(self) -> set[int]:
        return {env for env, fragment in enumerate(self.running) if fragment is None}

    @property
    def held(self) -> int:
        return sum(map(len, self.everything()))

    def everything(self) -> list[Fragment]:
        """All fragments with steps, in the order in which they are popped."""
        return [*self.finished, *(each for each in self.running if each)]

    def begin(self, env: int, obs: int, reset_info: dict[str, Any] | None = None, **identity: Any) -> None:
        """An episode begins."""
        self.running[env] = Fragment(env, self.next_id, [obs], reset_info=reset_info, **identity)
        self.next_id += 1

    def end_early(self, envs: list[int]) -> None:
        """A reset ends what runs."""
        for env in envs:
            fragment, self.running[env] = self.running[env], None
            if fragment:
                fragment.ended_by = "reset_early"
                if self.drops_early:
                    self.counts["dropped"] += len(fragment)
                else:
                    self.finished.append(fragment)

    def make_room(self) -> bool:
        """Whether a step of all environments fits, or can be made to fit."""
        if self.most is None:
            return True
        while self.held + len(self.running) > self.most and self.finished:
            self.counts["dropped"] += len(self.finished.pop(0))
        return self.held + len(self.running) <= self.most

    def step(self, env: int, act: int, rew: float, info: dict[str, Any], obs: int) -> None:
        """A step, which leads to the observation."""
        fragment = self.running[env]
        assert fragment is not None
        self.counts["stepped"] += 1
        fragment.obs.append(obs)
        fragment.acts.append(act)
        fragment.rews.append(rew)
        fragment.infos.append(info)

    def end(self, env: int, terminated: bool, truncated: bool) -> None:
        """The last step of an environment ended its episode."""
        fragment, self.running[env] = self.running[env], None
        assert fragment is not None
        fragment.terminated, fragment.truncated = terminated, truncated
        fragment.ended_by = "terminated" if terminated else "truncated"
        self.finished.append(fragment)

    def end_without_last(self, env: int) -> None:
        """The same, but the last step is lost."""
        fragment, self.running[env] = self.running[env], None
        assert fragment is not None
        self.counts["dropped"] += 1
        for column in (fragment.obs, fragment.acts, fragment.rews, fragment.infos):
            column.pop()
        if fragment:
            self.finished.append(fragment)

    def deliver(self) -> None:
        """The sink takes all that finished."""
        if self.has_sink:
            self.counts["delivered"] += sum(map(len, self.finished))
            self.delivered += self.finished
            self.finished = []

    def close(self) -> None:
        """The running fragments end here."""
        for env, fragment in enumerate(self.running):
            if fragment:
                fragment.ended_by = "closed"
                self.finished.append(fragment)
            self.running[env] = None
        self.deliver()

    def pop_finished(self) -> list[Fragment]:
        popped, self.finished = self.finished, []
        self.counts["popped"] += sum(map(len, popped))
        return popped

    def pop(self) -> list[Fragment]:
        popped = self.everything()
        self.counts["popped"] += sum(map(len, popped))
        self.finished = []
        self.running = [each.rest() if each else each for each in self.running]
        return popped


Rows = Callable[[np.ndarray], Any]
"""A row for each number."""


def assert_trajectories(trajectories: Any, fragments: list[Fragment], obs: Rows, acts: Rows) -> None:
    """Assert that trajectories are these fragments."""
    assert [len(each) for each in trajectories] == [len(each) for each in fragments]
    for trajectory, fragment in zip(trajectories, fragments, strict=True):
        assert_same(trajectory.obs, obs(np.array(fragment.obs)), "obs")
        assert_same(trajectory.acts, acts(np.array(fragment.acts)), "acts")
        assert trajectory.rews.tolist() == fragment.rews
        assert (
            [{}] * len(fragment) == fragment.infos
            if trajectory.infos is None
            else trajectory.infos.tolist() == fragment.infos
        )
        flags = trajectory.terminated, trajectory.truncated, trajectory.terminal
        assert flags == (fragment.terminated, fragment.truncated, fragment.terminated or fragment.truncated)
        episode = trajectory.episode
        for name in ("id", "seed", "reset_info", "start_step", "ended_by"):
            assert getattr(episode, name) == getattr(fragment, name), name
        assert episode.env_index == fragment.env


def assert_transitions(transitions: Any, fragments: list[Fragment], obs: Rows, acts: Rows) -> None:
    """Assert that transitions are the steps of these fragments."""
    joined = {
        "obs": obs(np.array([number for each in fragments for number in each.obs[:-1]])),
        "next_obs": obs(np.array([number for each in fragments for number in each.obs[1:]])),
        "acts": acts(np.array([number for each in fragments for number in each.acts])),
    }
    for name, expected in joined.items():
        assert_same(getattr(transitions, name), expected, name)
    assert transitions.rews.tolist() == [rew for each in fragments for rew in each.rews]
    assert transitions.infos.tolist() == [info for each in fragments for info in each.infos]
    for name in ("terminated", "truncated"):
        flags = [getattr(each, name) and i == len(each) - 1 for each in fragments for i in range(len(each))]
        assert getattr(transitions, name).tolist() == flags
