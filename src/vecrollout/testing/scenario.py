"""A vector of counting environments, the calls to it, and the trajectories that a recorder must record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import Space

from vecrollout.data.trajectory import EndedBy, TrajectoryWithRew
from vecrollout.testing.comparison import assert_same
from vecrollout.testing.counting import CountingEnv, EpisodeScript
from vecrollout.testing.spaces import NUMBERS, batch_of, space_of

DEFAULT_EPISODES = (
    (EpisodeScript(3), EpisodeScript(2, "truncated"), EpisodeScript(1)),
    (EpisodeScript(1, "truncated"), EpisodeScript(4, "both")),
    (EpisodeScript(3, "both"), EpisodeScript(6)),
)
"""Three environments with all kinds of endings, some in the same step, and with episodes of a single step."""

# Environment i starts to count at i * _FIRST, and each of its episodes _STRIDE later than the one before.
_FIRST = 50
_STRIDE = 4


@dataclass(frozen=True)
class Recorded:
    """A run of an episode's steps, as a recorder must return it."""

    obs: Any
    """Observations, T + 1 rows."""
    acts: npt.NDArray[Any]
    """Actions, T rows."""
    rews: npt.NDArray[np.float64]
    """Rewards, shape `(T,)`."""
    env_index: int
    """Index of the environment."""
    episode: int
    """Number of the episode in its environment, from 0."""
    start_step: int
    """Index of the first step in the episode."""
    terminated: bool
    """Whether the last step reached a terminal state."""
    truncated: bool
    """Whether the episode was cut short at the last step."""
    ended_by: EndedBy | None
    """What ended the episode at the run's end; None if it goes on."""

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.rews)

    @property
    def terminal(self) -> bool:
        """Whether the environment ended the episode with the last step."""
        return self.terminated or self.truncated

    @property
    def stop_step(self) -> int:
        """Steps of the episode up to the run's end."""
        return self.start_step + len(self)

    def assert_recorded_as(
        self, trajectory: TrajectoryWithRew, *, reward_dtype: type[np.floating[Any]], sees_both: bool
    ) -> None:
        """Assert that a trajectory equals this run in everything except the episode's id and seed.

        Args:
            trajectory: The recorded trajectory, with all infos.
            reward_dtype: Dtype in which the recorder sees the environments' rewards, which are Python floats.
            sees_both: Whether the recorder sees that a step was both terminated and truncated. Otherwise it sees
                `terminated` only.
        """
        assert_same(trajectory.obs, self.obs, "obs")
        assert_same(trajectory.acts, self.acts, "acts")
        assert_same(trajectory.rews, self.rews.astype(reward_dtype), "rews")
        assert trajectory.infos is not None
        assert [info["t"] for info in trajectory.infos] == list(range(self.start_step + 1, self.stop_step + 1))
        truncated = self.truncated and (sees_both or not self.terminated)
        assert_same(trajectory.terminal, self.terminal, "terminal")
        assert_same(trajectory.terminated, self.terminated, "terminated")
        assert_same(trajectory.truncated, truncated, "truncated")
        identity = trajectory.episode
        assert identity.reset_info is not None
        recorded = (identity.env_index, identity.reset_info["episode"], identity.start_step, identity.ended_by)
        assert recorded == (self.env_index, self.episode, self.start_step, self.ended_by)


class _Step(NamedTuple):
    call: int
    episode: int
    t: int
    ends: EndedBy | None
    """What ended the episode with this step or before the next call."""


@dataclass(frozen=True)
class Scenario:
    """Counting environments side by side, each with its own script, and the calls to them.

    All environments are reset once and then stepped together. The step calls count from 0.

    Args:
        space: Observation space, or its name in `SPACES`.
        action_space: Action space, or its name in `SPACES`.
        episodes: Each environment's episodes.
        resets: Calls before which all environments are reset again.
        has_dead_calls: Whether the call after an episode's end resets the environment instead of stepping it
            (Gymnasium's next-step autoreset).
        reuse_obs: See `CountingEnv`.
        reuse_info: See `CountingEnv`.
    """

    space: str | Space[Any] = "box"
    action_space: str | Space[Any] = "discrete"
    episodes: Sequence[Sequence[EpisodeScript]] = DEFAULT_EPISODES
    resets: Sequence[int] = ()
    has_dead_calls: bool = False
    reuse_obs: bool = False
    reuse_info: bool = False

    @property
    def num_envs(self) -> int:
        """Number of environments, E."""
        return len(self.episodes)

    def env_fns(self) -> list[Callable[[], CountingEnv]]:
        """One function for each environment, which makes it. The functions can be pickled."""
        return [
            partial(
                CountingEnv,
                self.space,
                episodes,
                action_space=self.action_space,
                first=_FIRST * env,
                stride=_STRIDE,
                reuse_obs=self.reuse_obs,
                reuse_info=self.reuse_info,
            )
            for env, episodes in enumerate(self.episodes)
        ]

    def actions(self, call: int) -> Any:
        """The actions of a call, all different, and different from the actions of calls nearby.

        Args:
            call: Number of the call, from 0.

        Returns:
            An array of shape `(E, *act_shape)`, or a dict or tuple of arrays.
        """
        batch = batch_of(space_of(self.action_space), [self._action(call, env) for env in range(self.num_envs)])
        return _recorded(batch)

    def recorded(self, start: int, stop: int, *, closed: bool = False) -> list[Recorded]:
        """The runs that a recorder must hold after the calls `[start, stop)`, if everything before was popped.

        Args:
            start: The first call.
            stop: End of the calls.
            closed: Whether the recorder was closed after the last call.

        Returns:
            First the runs whose episode ended, in the order of the ends (by environment within a call or reset), then
            the runs of running episodes, by environment.
        """
        finished: list[tuple[int, bool, int, Recorded]] = []
        running: list[Recorded] = []
        for env in range(self.num_envs):
            run: list[_Step] = []
            for step in self._steps(env, stop):
                if step.call >= start:
                    run.append(step)
                if step.ends is not None:
                    if run:
                        # Episodes that a call ends come before episodes that the following reset ends.
                        finished.append((step.call, step.ends == "reset_early", env, self._of(env, run)))
                    run = []
            if run:
                running.append(self._of(env, run))
        if closed:
            running = [replace(each, ended_by="closed") for each in running]
        return [each for *_, each in sorted(finished, key=lambda item: item[:3])] + running

    def steps(self, calls: int) -> int:
        """Number of steps that all environments together take.

        Args:
            calls: Number of calls.
        """
        return sum(len(list(self._steps(env, calls))) for env in range(self.num_envs))

    def _script(self, env: int, episode: int) -> EpisodeScript:
        scripts = self.episodes[env]
        return EpisodeScript(*scripts[episode % len(scripts)])

    def _steps(self, env: int, calls: int) -> Iterator[_Step]:
        episode = t = 0
        is_over = False  # with dead calls: whether the next call resets the environment
        for call in range(calls):
            if call in self.resets:
                episode, t, is_over = episode + 1, 0, False
            elif is_over:
                episode, t, is_over = episode + 1, 0, False
                continue
            script = self._script(env, episode)
            ends: EndedBy | None = None
            if t + 1 == script.steps:
                ends = "terminated" if script.terminated else "truncated"
            elif call + 1 in self.resets:
                ends = "reset_early"
            yield _Step(call, episode, t, ends)
            t += 1
            if t == script.steps:
                is_over = self.has_dead_calls
                if not is_over:
                    episode, t = episode + 1, 0

    def _action(self, call: int, env: int) -> int:
        return (call * self.num_envs + env) % NUMBERS

    def _of(self, env: int, run: Sequence[_Step]) -> Recorded:
        """The run of some steps of one episode."""
        episode, start, stop = run[0].episode, run[0].t, run[-1].t + 1
        script = self._script(env, episode)
        zero = _FIRST * env + _STRIDE * episode
        numbers = np.arange(zero + start, zero + stop + 1)
        return Recorded(
            obs=_recorded(batch_of(space_of(self.space), (numbers % NUMBERS).tolist())),
            acts=_recorded(batch_of(space_of(self.action_space), [self._action(step.call, env) for step in run])),
            rews=numbers[1:].astype(np.float64) + 0.5,
            env_index=env,
            episode=episode,
            start_step=start,
            terminated=stop == script.steps and script.terminated,
            truncated=stop == script.steps and script.truncated,
            ended_by=run[-1].ends,
        )


def _recorded(tree: Any) -> Any:
    """The tree with texts as objects, as recorders keep them: they have no common length."""
    if isinstance(tree, dict):
        return {key: _recorded(child) for key, child in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map(_recorded, tree))
    return tree.astype(object) if tree.dtype.kind == "U" else tree
