"""Recorders with one fault each, under the conformance suite; `test_conformance_detects.py` runs this file."""

from __future__ import annotations

import dataclasses

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from vecrollout import BufferingWrapper
from vecrollout.testing.conformance import RecorderConformance


class Suite(RecorderConformance):
    spaces = ("dict",)
    action_spaces = ("discrete",)
    recorder: type = BufferingWrapper
    below: type | None = None

    def make_recorder(self, env_fns, **options):
        venv = DummyVecEnv(env_fns)
        return self.recorder(venv if self.below is None else self.below(venv), **options)


class Altering(VecEnvWrapper):
    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.alter(*self.venv.step_wait())


class LosingLastObservations(Altering):
    def alter(self, obs, rews, dones, infos):
        for env in np.flatnonzero(dones):
            infos[env]["terminal_observation"] = (
                {key: value[env] for key, value in obs.items()} if isinstance(obs, dict) else obs[env]
            )
        return obs, rews, dones, infos


class ForgettingTruncation(Altering):
    def alter(self, obs, rews, dones, infos):
        return obs, rews, dones, [{**info, "TimeLimit.truncated": False} for info in infos]


class WithFloat64Rewards(Altering):
    def alter(self, obs, rews, dones, infos):
        return obs, rews.astype(np.float64), dones, infos


class KeepingReferences(BufferingWrapper):
    """The last actions stand everywhere."""

    last = None

    def step_async(self, actions):
        self.last = actions
        super().step_async(actions)

    def pop_trajectories(self):
        trajectories, lengths = super().pop_trajectories()
        return [
            dataclasses.replace(each, acts=np.repeat(self.last[[each.episode.env_index]], len(each)))
            for each in trajectories
        ], lengths


class Sorting(BufferingWrapper):
    def pop_trajectories(self):
        trajectories, lengths = super().pop_trajectories()
        return sorted(trajectories, key=lambda each: each.episode.env_index), lengths


class Miscounting(BufferingWrapper):
    @property
    def n_transitions(self):
        return self.stepped


class DroppingWhatRuns(BufferingWrapper):
    def pop_finished_trajectories(self):
        finished = super().pop_finished_trajectories()
        super().pop_trajectories()
        return finished


class NeverRefusing(BufferingWrapper):
    def __init__(self, venv, error_on_premature_reset=False, **options):
        super().__init__(venv, False, **options)


class Sinkless(BufferingWrapper):
    def __init__(self, venv, *, sink=None, **options):
        super().__init__(venv, **options)


class Unbounded(BufferingWrapper):
    def __init__(self, venv, *, max_transitions=None, **options):
        super().__init__(venv, **options)


class Stateless(BufferingWrapper):
    def load_state_dict(self, state):
        pass


class TestLosingLastObservations(Suite):
    below = LosingLastObservations


class TestForgettingTruncation(Suite):
    below = ForgettingTruncation


class TestWithFloat64Rewards(Suite):
    below = WithFloat64Rewards


class TestKeepingReferences(Suite):
    recorder = KeepingReferences


class TestSorting(Suite):
    recorder = Sorting


class TestMiscounting(Suite):
    recorder = Miscounting


class TestDroppingWhatRuns(Suite):
    recorder = DroppingWhatRuns


class TestNeverRefusing(Suite):
    recorder = NeverRefusing


class TestSinkless(Suite):
    recorder = Sinkless


class TestUnbounded(Suite):
    recorder = Unbounded


class TestStateless(Suite):
    recorder = Stateless


class TestFaultless(Suite):
    pass
