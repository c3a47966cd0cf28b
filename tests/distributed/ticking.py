"""Environments whose every value tells where it belongs, and policies for them."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from vecrollout import Trajectory

NODE = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20}
"""Options of a node of the cluster."""


class Ticking(gym.Env[Any, Any]):
    """An observation has the episode's number drawn from the seed, and the step; the reward is the step.

    The length of an episode follows from its number.
    """

    observation_space = spaces.Box(-1, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(1000)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.number, self.step_count = int(self.np_random.integers(1 << 40)), 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.step_count += 1
        ended = self.step_count >= length_of(self.number)
        return self._obs(), float(self.step_count), ended and self.number % 2 == 0, ended and self.number % 2 == 1, {}

    def _obs(self) -> Any:
        return np.array([self.number, self.step_count], np.float64)


class Unlicensed(Ticking):
    """Cannot be reset."""

    def reset(self, **kwargs: Any) -> Any:
        raise ValueError("the simulator is not licensed")


gym.register("Unlicensed-v0", Unlicensed)


class Slow(Ticking):
    """Takes a while to be made."""

    def __init__(self) -> None:
        time.sleep(2)


def length_of(number: int) -> int:
    return 3 + number % 20


class Numbered:
    """A policy whose every action is a number."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        return np.full(len(observations), self.number), None

    @classmethod
    def build(cls, env: Any) -> Numbered:
        return cls()

    def set_number(self, number: int) -> None:
        self.number = number


def check(trajectory: Trajectory) -> tuple[float, int, int]:
    """Check a trajectory against the definition; returns its episode's number, first step and end."""
    numbers, steps = np.asarray(trajectory.obs).T
    first = trajectory.episode.start_step
    assert (numbers == numbers[0]).all()
    assert steps.tolist() == [*range(first, first + len(trajectory) + 1)]
    assert trajectory.rews.tolist() == steps[1:].tolist()  # type: ignore[attr-defined]
    ended = steps[-1] == length_of(int(numbers[0]))
    assert trajectory.terminated == (ended and numbers[0] % 2 == 0)
    assert trajectory.truncated == (ended and numbers[0] % 2 == 1)
    return float(numbers[0]), first, first + len(trajectory)


def check_all(trajectories: Any) -> list[tuple[float, int, int]]:
    """Check trajectories, and that no step is there twice."""
    parts = [check(each) for each in trajectories]
    steps = [(number, step) for number, first, end in parts for step in range(first, end)]
    assert len(steps) == len(set(steps))
    return parts
