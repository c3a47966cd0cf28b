"""The same policy in the same environments leaves the same record, whatever vector environment they are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from vector_envs import MODES, async_env, sync_env

from vecrollout import BufferingWrapper, VectorBufferingWrapper
from vecrollout.testing import SPACES, VEC_ENV_SPACES, Recorded, Scenario, batch_of
from vecrollout.testing.scenario import DEFAULT_EPISODES
from vecrollout.testing.strategies import scenarios

# Episodes of each environment that are compared, and the first and the next numbers of the scenarios' environments.
EPISODES = 3
FIRST, STRIDE = 50, 4

VEC_ENV_ACTION_SPACES = tuple(name for name in VEC_ENV_SPACES if name not in ("dict", "tuple"))


@dataclass(frozen=True)
class Path:
    """A way from the environments to the record."""

    name: str
    recorder: Callable[[Any], Any]
    rule: str
    spaces: tuple[str, ...] = tuple(SPACES)
    action_spaces: tuple[str, ...] = tuple(SPACES)
    reward_dtype: Any = np.float64
    sees_both: bool = True
    examples: int = 3
    max_envs: int = 2

    def step(self, recorder: Any, actions: Any) -> Any:
        """The dones."""
        if isinstance(recorder, BufferingWrapper):
            return recorder.step(actions)[2]
        _, _, terminated, truncated, _ = recorder.step(actions)
        dones = terminated | truncated
        if self.rule == "disabled" and dones.any():
            recorder.reset(options={"reset_mask": dones.copy()})
        return dones


def sb3(name: str, cls: Any, **options: Any) -> Path:
    spaces = {"spaces": VEC_ENV_SPACES, "action_spaces": VEC_ENV_ACTION_SPACES}
    return Path(name, lambda fns: BufferingWrapper(cls(fns)), "same_step", sees_both=False, **spaces, **options)


def sync(mode: str, copy: bool) -> Path:
    name = f"sync {mode} copy={copy}"
    return Path(
        name,
        lambda fns: VectorBufferingWrapper(sync_env(fns, mode, copy=copy)),
        mode,
        examples=settings().max_examples,
        max_envs=3,
    )


def asynchronous(mode: str, copy: bool, shared: bool) -> Path:
    # Gymnasium's shared memory does not pass texts on: all its observations read "00000000".
    spaces = tuple(name for name in SPACES if name != "text" or not shared)
    return Path(
        f"async {mode} copy={copy} shared_memory={shared}",
        lambda fns: VectorBufferingWrapper(async_env(fns, mode, copy=copy, shared_memory=shared)),
        mode,
        spaces,
    )


PATHS = [
    sb3("DummyVecEnv", DummyVecEnv, reward_dtype=np.float32, examples=settings().max_examples, max_envs=3),
    sb3("SubprocVecEnv", SubprocVecEnv),
    *(sync(mode, copy) for mode in MODES for copy in (True, False)),
    *(asynchronous(mode, copy, shared) for mode in MODES for copy in (True, False) for shared in (True, False)),
]


def action(env: int, t: int) -> int:
    """The policy: a number for each environment and step of an episode."""
    return (37 * env + 11 * t + 5) % 256


def recorded(path: Path, scenario: Scenario) -> list[list[Any]]:
    """Each environment's first episodes, as this path records them."""
    recorder = path.recorder(scenario.env_fns())
    try:
        recorder.reset()
        finished: list[list[Any]] = [[] for _ in range(scenario.num_envs)]
        t = [0] * scenario.num_envs
        is_over = [False] * scenario.num_envs
        while min(map(len, finished)) < EPISODES:
            numbers = [action(env, t[env]) for env in range(scenario.num_envs)]
            dones = path.step(recorder, of_space(scenario.action_space, numbers))
            for env, done in enumerate(dones):
                t[env] = 0 if done or is_over[env] else t[env] + 1
                is_over[env] = bool(done) and path.rule == "next_step"
            for trajectory in recorder.pop_finished_trajectories()[0]:
                finished[trajectory.episode.env_index].append(trajectory)
        return [each[:EPISODES] for each in finished]
    finally:
        recorder.close()


def happened(scenario: Scenario, env: int, episode: int) -> Recorded:
    """An episode of a counting environment under the policy."""
    script = scenario.episodes[env][episode % len(scenario.episodes[env])]
    first = FIRST * env + STRIDE * episode
    numbers = range(first, first + script.steps + 1)
    return Recorded(
        obs=of_space(scenario.space, [number % 256 for number in numbers]),
        acts=of_space(scenario.action_space, [action(env, t) for t in range(script.steps)]),
        rews=np.array(numbers[1:]) + 0.5,
        env_index=env,
        episode=episode,
        start_step=0,
        terminated=script.terminated,
        truncated=script.truncated,
        ended_by="terminated" if script.terminated else "truncated",
    )


def of_space(space: str, numbers: list[int]) -> Any:
    return np.array([str(n) for n in numbers], dtype=object) if space == "text" else batch_of(SPACES[space], numbers)


@pytest.mark.hypothesis
@pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
def test_the_record_is_the_same_on_every_path(path):
    @settings(max_examples=path.examples)
    @given(scenario=scenarios(path.spaces, action_spaces=path.action_spaces, max_envs=path.max_envs))
    def check(scenario: Scenario) -> None:
        for env, trajectories in enumerate(recorded(path, scenario)):
            for episode, trajectory in enumerate(trajectories):
                happened(scenario, env, episode).assert_recorded_as(
                    trajectory, reward_dtype=path.reward_dtype, sees_both=path.sees_both
                )

    for space in path.spaces:
        action_space = space if space in path.action_spaces else "multi_discrete"
        episodes = DEFAULT_EPISODES[: path.max_envs]
        check = example(Scenario(space=space, action_space=action_space, episodes=episodes))(check)
    check()
