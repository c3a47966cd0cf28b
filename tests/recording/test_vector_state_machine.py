"""Any operations in any order on a Gymnasium vector environment, under every rule, beside a recorder of plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from test_state_machine import BufferingMachine
from vector_envs import HAS_MODES, MODES, sync_env

from vecrollout import VectorBufferingWrapper
from vecrollout.testing import Scenario, leaves_of


class VectorMachine(BufferingMachine):
    reward_dtype = np.float64
    sees_both = True

    def environments(self, scenario: Scenario) -> Any:
        return sync_env(scenario.env_fns(), self.autoreset, copy=False)

    def recorder(self) -> Any:
        return VectorBufferingWrapper(self.base, autoreset_mode=self.autoreset, **self.options)

    def start(self, kind: str = "usual") -> None:
        """A whole step."""
        if kind == "usual" and self.autoreset == "disabled" and self.model.waiting:
            self.reset_some([env in self.model.waiting for env in range(len(self.model.envs))], None)
        actions = self.actions(kind)
        with self.both_raise(lambda: (self.model.step_async(actions), self.model.step_wait())):
            self.venv.step(actions)
        for leaf in leaves_of(actions):
            leaf[...] = 0

    def wait(self) -> None:
        """There are no halves of a step here."""

    # Not a rule here.
    pop_while_actions_wait = None

    @rule(act=st.sampled_from(["another dtype", "another shape", "without a reset of those that wait", "reset"]))
    def one_call(self, act: str) -> None:
        if act == "reset":
            self.reset(None)
        else:
            self.start(act)

    def reset(self, seed: int | None) -> None:
        num_envs = len(self.model.envs)
        self.model.seeds = [None if seed is None else seed + env for env in range(num_envs)]
        with self.both_raise(self.model.reset):
            self.venv.reset(seed=seed)
        self.model.seeds = [None] * num_envs

    @precondition(lambda self: HAS_MODES)
    @rule(
        mask=st.lists(st.booleans(), min_size=4, max_size=4).filter(lambda mask: mask[0]), seed=st.none() | st.just(7)
    )
    def reset_some(self, mask: list[bool], seed: int | None) -> None:
        mask = mask[: len(self.model.envs)]
        options = {"reset_mask": np.array(mask)}
        with self.both_raise(lambda: self.model.reset_some(mask, seed)):
            self.venv.reset(seed=seed, options=options)


class NextStepMachine(VectorMachine):
    autoreset = "next_step"


class SameStepMachine(VectorMachine):
    autoreset = "same_step"


class DisabledMachine(VectorMachine):
    autoreset = "disabled"


def case_of(machine: type[VectorMachine]) -> Any:
    machine.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40)
    is_there = machine.autoreset in MODES
    return pytest.mark.skipif(not is_there, reason="this gymnasium does not have the rule")(machine.TestCase)


TestNextStep = case_of(NextStepMachine)
TestSameStep = case_of(SameStepMachine)
TestDisabled = case_of(DisabledMachine)
