"""A process that acts in environments of its own and writes what it records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed

from vecrollout import exits
from vecrollout._typing import RecordInfos
from vecrollout.collecting.acting import Acting
from vecrollout.collecting.collection import of_envs
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew, cut
from vecrollout.distributed import environments
from vecrollout.distributed.order import Order, Place, Policy, Report
from vecrollout.distributed.policies import Unpacking
from vecrollout.distributed.seeds import first_seed, policy_rng
from vecrollout.distributed.sharing import check_probe
from vecrollout.errors import VecrolloutError
from vecrollout.recording.around import recorder_around
from vecrollout.recording.environments import AnyEnv, num_envs_of, spaces_of
from vecrollout.recording.writing import most_transitions, trace_writer


class Worker:
    """Acts, records and writes, from `start` on.

    Args:
        place: Which worker this is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rng = policy_rng(place)
        set_random_seed(int(self._rng.integers(1 << 31)))
        self._unpacking = Unpacking()
        self._round, self._is_whole = -1, False
        # Whether the running episodes were written with an end, so that nothing may be added to them.
        self._are_over = False
        self._policy: Policy | None = None
        self._acting: Acting

    def start(
        self,
        env_fn: Callable[[], AnyEnv],
        num_envs: int | None,
        directory: str | Path,
        probe: Path | None,
        writing: Mapping[str, Any],
        acting: Mapping[str, Any],
    ) -> int:
        """Make the environments and the writer.

        Args:
            env_fn: Makes the environments.
            num_envs: Number of environments, where `env_fn` makes one.
            directory: Where to write.
            probe: A file that the directory holds on every machine; None for an object store.
            writing: Options of `TraceWriter`.
            acting: `deterministic_policy`, `record_infos`, `record_masks` and `record_states` of
                `generate_trajectories`.

        Returns:
            The number of environments.
        """
        if probe is not None:
            check_probe(probe)
        self._env = env = environments.made(env_fn, num_envs)
        self._num_envs = num_envs_of(env)
        self._options = acting
        extras = acting["record_masks"] or acting["record_states"]
        infos: RecordInfos = [] if acting["record_infos"] == "none" and extras else acting["record_infos"]
        self._recorder = recorder_around(env, {"record_infos": infos, "error_on_premature_reset": False}, {})
        self._acting = Acting(self._recorder, env, acting["record_masks"], acting["record_states"])
        self._most_held = most_transitions(spaces_of(env), self._num_envs)
        self._active = np.ones(self._num_envs, dtype=bool)
        # Of the running episodes, without the steps that the recorder holds.
        self._returns = np.zeros(self._num_envs)
        self._first_obs = environments.reset(self._recorder, first_seed(self._place, self._num_envs))
        place = {"worker": self._place.worker, "incarnation": self._place.incarnation}
        self._episode_metadata = writing.get("episode_metadata")
        said = {"metadata": {**(writing.get("metadata") or {}), **place}, "episode_metadata": self._described}
        with trace_writer(directory, env, spaces_of(env), **{**writing, **said}) as writer:
            self._writer = writer
        return self._num_envs

    def work(self, order: Order) -> Report:
        """Carry out an order, or a part of it that takes `chunk_s`; an error leaves what was made before on disk."""
        self._begin(order)
        try:
            return self._whole_episodes(order) if order.is_whole else self._steps(order)
        except BaseException as error:
            # After an error of our own, as of a policy, the driver may give an order to go on.
            self._write_running(ends=not isinstance(error, VecrolloutError))
            self._writer.flush()
            raise

    def close(self) -> None:
        """Write the running episodes, and close environments and writer."""
        recorder: Any = self._recorder
        exits.close_each(lambda: self._write_running(ends=True), self._writer.close, recorder.close)

    def _begin(self, order: Order) -> None:
        is_new = order.round != self._round
        restarts = self._are_over or (is_new and self._round != -1 and (order.is_whole or self._is_whole))
        if is_new or restarts or order.policy != self._policy:
            # A fragment is of one policy and one round, also where a stream ended or an error ended the round.
            self._write_running(ends=restarts)
        if order.policy != self._policy:
            self._load(order.policy)
        if restarts:
            self._returns[:] = 0
            self._acting.begin(self._recorder.restart())
            self._are_over = False
        if is_new:
            self._active[:] = True
            self._round, self._is_whole = order.round, order.is_whole

    def _load(self, version: Policy) -> None:
        policy = self._unpacking.policy(version, self._env)
        if isinstance(policy, BaseAlgorithm):
            # Some algorithms explore with its samples.
            policy.action_space.seed(int(self._rng.integers(1 << 31)))
        self._acting.use(policy, self._options["deterministic_policy"], self._rng)
        if self._policy is None:
            self._acting.begin(self._first_obs)
        self._policy = version

    def _steps(self, order: Order) -> Report:
        """Make transitions; the fragments of running episodes count when there are enough."""
        recorder, before, until = self._recorder, self._recorder.stepped, monotonic() + order.chunk_s
        made = 0
        while monotonic() < until and (order.steps is None or made < order.steps):
            self._acting.step()
            made = recorder.stepped - before
        is_done = order.steps is not None and made >= order.steps
        trajectories = (recorder.pop_trajectories if is_done else recorder.pop_finished_trajectories)()[0]
        if order.steps is not None and made > order.steps:
            trajectories = _shortened(trajectories, made - order.steps)
            made = order.steps
        elif recorder.held > self._most_held:
            trajectories += recorder.pop_trajectories()[0]
        returns = self._write(trajectories, ends=is_done and order.is_last)
        if is_done or order.is_endless:
            self._writer.flush()
        return Report(made, returns, is_done)

    def _whole_episodes(self, order: Order) -> Report:
        """Finish episodes; where there are enough, each environment finishes the one that it is in."""
        recorder, until = self._recorder, monotonic() + order.chunk_s
        steps, returns, is_enough = 0, list[float](), order.finishes
        while monotonic() < until and self._active.any():
            ended = self._acting.step()
            if ended.any():
                trajectories = of_envs(self._active, recorder.pop_finished_trajectories()[0])
                steps += sum(map(len, trajectories))
                returns += self._write(trajectories)
                is_enough = is_enough or (order.episodes is not None and len(returns) >= order.episodes)
            if is_enough:
                self._active &= ~ended
        is_done = not self._active.any()
        if is_done:
            self._writer.flush()
        return Report(steps, returns, is_done)

    def _write_running(self, ends: bool = False) -> None:
        """Write the running episodes, but those that began after an environment's part of a round of whole episodes."""
        self._write(of_envs(self._active, self._recorder.pop_trajectories()[0]), ends)

    def _write(self, trajectories: list[TrajectoryWithRew], ends: bool = False) -> list[float]:
        """Write trajectories, perhaps with the ends of running episodes; returns the returns of those that ended."""
        if ends:
            trajectories, self._are_over = _ended(trajectories), True
        ended = []
        for each in trajectories:
            env = each.episode.env_index
            self._returns[env] += float(np.sum(each.rews)) if each.rews.ndim == 1 else np.nan
            if each.terminated or each.truncated:
                ended.append(float(self._returns[env]))
            if each.episode.ended_by is not None:
                self._returns[env] = 0.0
        if trajectories:
            self._writer.extend(trajectories)
        return ended

    def _described(self, trajectory: Trajectory) -> Mapping[str, Any]:
        """What a trace keeps with a trajectory."""
        said = self._episode_metadata(trajectory) if self._episode_metadata is not None else None
        version = None if self._policy is None else self._policy.version
        return {**(said or {}), "policy_version": version, "round": self._round}


def _ended(trajectories: list[TrajectoryWithRew]) -> list[TrajectoryWithRew]:
    """Trajectories of which the last one of each environment is the end of its episode, as after a recorder's close."""
    last = {each.episode.env_index: each for each in trajectories}
    return [
        replace(each, episode=replace(each.episode, ended_by="closed"))
        if each is last[each.episode.env_index] and each.episode.ended_by is None
        else each
        for each in trajectories
    ]


def _shortened(trajectories: list[TrajectoryWithRew], surplus: int) -> list[TrajectoryWithRew]:
    """Trajectories without the last steps of as many environments."""
    kept, shortened = list[TrajectoryWithRew](), set[int | None]()
    for each in reversed(trajectories):
        if each.episode.env_index not in shortened and len(shortened) < surplus:
            shortened.add(each.episode.env_index)
            if len(each) > 1:
                kept.append(cut(each, 0, len(each) - 1))
        else:
            kept.append(each)
    return kept[::-1]
