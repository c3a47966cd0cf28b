"""The recorder over the vector environments that Stable-Baselines3 has."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from vecrollout import BufferingWrapper
from vecrollout.testing.conformance import RecorderConformance


class TestDummyVecEnv(RecorderConformance):
    def make_recorder(self, env_fns, **options):
        return BufferingWrapper(DummyVecEnv(env_fns), **options)


class TestSubprocVecEnv(RecorderConformance):
    reward_dtype = np.float64

    def make_recorder(self, env_fns, **options):
        return BufferingWrapper(SubprocVecEnv(env_fns), **options)
