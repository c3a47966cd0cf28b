"""The recorder over the vector environments that Gymnasium has, under every autoreset rule that it has."""

from __future__ import annotations

import pytest
from vector_envs import MODES, RULES, async_env, sync_env

from vecrollout import BufferingEnvWrapper, VectorBufferingWrapper
from vecrollout.testing.vector_conformance import EnvRecorderConformance, VectorRecorderConformance


class SyncConformance(VectorRecorderConformance):
    mode: str

    def make_recorder(self, env_fns, **options):
        return VectorBufferingWrapper(sync_env(env_fns, self.mode), **options)


class AsyncConformance(VectorRecorderConformance):
    """Each test starts processes; `test_vector_property.py` has the other spaces."""

    spaces = ("box", "discrete", "nested")
    action_spaces = ("box", "nested")
    mode: str

    def make_recorder(self, env_fns, **options):
        return VectorBufferingWrapper(async_env(env_fns, self.mode), **options)


class NextStep:
    mode = "next_step"
    has_dead_calls = True
    pytestmark = pytest.mark.skipif("next_step" not in MODES, reason="this gymnasium does not have the rule")


class SameStep:
    mode = "same_step"
    pytestmark = pytest.mark.skipif("same_step" not in MODES, reason="this gymnasium does not have the rule")


class Disabled:
    mode = "disabled"
    resets_by_mask = True
    pytestmark = pytest.mark.skipif("disabled" not in MODES, reason="this gymnasium does not have the rule")


class TestSyncNextStep(NextStep, SyncConformance):
    pass


class TestSyncSameStep(SameStep, SyncConformance):
    pass


class TestSyncDisabled(Disabled, SyncConformance):
    pass


class TestAsyncNextStep(NextStep, AsyncConformance):
    pass


class TestAsyncSameStep(SameStep, AsyncConformance):
    pass


class TestAsyncDisabled(Disabled, AsyncConformance):
    pass


class TestEnv(EnvRecorderConformance):
    def make_recorder(self, env_fns, **options):
        (env_fn,) = env_fns
        return BufferingEnvWrapper(env_fn(), **options)


def test_every_rule_that_this_gymnasium_has_is_tested():
    """One or all of them, as the installed version has it."""
    assert set(MODES) in ({"next_step"}, {"same_step"}, set(RULES))
