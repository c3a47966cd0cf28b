"""The part of the conformance suites that makes a recorder, drives it, and checks what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.testing.scenario import Recorded, Scenario
from vecrollout.testing.spaces import VEC_ENV_SPACES

CALLS = 13
"""Number of calls in most tests."""

EnvFn = Callable[[], gym.Env[Any, Any]]


class RecorderHarness:
    """The hooks that a subclass overrides, and the methods that the tests of all suites use."""

    spaces: ClassVar[Sequence[str]] = VEC_ENV_SPACES
    """Names of the observation spaces to test, from `vecrollout.testing.SPACES`."""

    action_spaces: ClassVar[Sequence[str]] = ("box", "box_scalar", "discrete", "multi_discrete", "multi_binary")
    """Names of the action spaces to test."""

    reward_dtype: ClassVar[type[np.floating[Any]]] = np.float32
    """Dtype in which the recorder sees rewards that the environments return as Python floats."""

    sees_both: ClassVar[bool] = False
    """Whether the recorder sees that a step was both terminated and truncated. Otherwise it sees `terminated` only."""

    has_dead_calls: ClassVar[bool] = False
    """Whether the call after an episode's end resets the environment instead of stepping it."""

    def make_recorder(self, env_fns: Sequence[EnvFn], **options: Any) -> Any:
        """A new recorder over new environments.

        Args:
            env_fns: One function for each environment, which makes it.
            **options: Options of the recorder: any of `error_on_premature_reset`, `early_reset`, `sink`,
                `max_transitions`, `on_full` and `record_infos`.

        Raises:
            NotImplementedError: Until it is overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} has to override make_recorder")

    def reset(self, recorder: Any, seed: int | None = None) -> None:
        """Reset all environments.

        Args:
            recorder: The recorder from `make_recorder`.
            seed: Environment i gets `seed + i`. None: no seeds.
        """
        if seed is not None:
            recorder.seed(seed)
        recorder.reset()

    def step(self, recorder: Any, actions: Any) -> None:
        """Step all environments once.

        Args:
            recorder: The recorder from `make_recorder`.
            actions: Actions, shape `(E, *act_shape)`; a dict or tuple of arrays for Dict and Tuple action spaces.
        """
        recorder.step(actions)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that takes a `space` or an `action_space` for each of them.

        Args:
            metafunc: pytest's description of the test.
        """
        for argument, names in {"space": self.spaces, "action_space": self.action_spaces}.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, names)

    @pytest.fixture
    def recorder_of(self) -> Iterator[Callable[..., Any]]:
        """A function that makes a recorder for a scenario and resets it. The recorder is closed after the test."""
        made: list[Any] = []

        def make(scenario: Scenario, *, wrap: Any = None, seed: int | None = None, **options: Any) -> Any:
            env_fns: list[EnvFn] = list(scenario.env_fns())
            if wrap is not None:
                env_fns = [partial(_wrapped, wrap, env_fn) for env_fn in env_fns]
            made.append(self.make_recorder(env_fns, **options))
            self.reset(made[-1], seed)
            return made[-1]

        yield make
        for recorder in made:
            recorder.close()

    def scenario(self, **changes: Any) -> Scenario:
        """The default scenario under this recorder's rules.

        Args:
            **changes: Fields of `Scenario` that differ.
        """
        return Scenario(has_dead_calls=self.has_dead_calls, **changes)

    def run(self, recorder: Any, scenario: Scenario, start: int = 0, stop: int = CALLS) -> None:
        """Make the calls `[start, stop)` of a scenario.

        Args:
            recorder: A recorder after its first reset.
            scenario: Scenario of the recorder's environments.
            start: First call.
            stop: End of the calls.
        """
        for call in range(start, stop):
            if call in scenario.resets:
                self.reset(recorder)
            self.step(recorder, scenario.actions(call))

    def assert_trajectories(self, trajectories: Sequence[TrajectoryWithRew], expected: Sequence[Recorded]) -> None:
        """Assert that these are the trajectories, in this order.

        Args:
            trajectories: The trajectories from the recorder.
            expected: The expected ones.
        """
        places = [(t.episode.env_index, (t.episode.reset_info or {}).get("episode"), len(t)) for t in trajectories]
        assert places == [(each.env_index, each.episode, len(each)) for each in expected]
        for trajectory, recorded in zip(trajectories, expected, strict=True):
            recorded.assert_recorded_as(trajectory, reward_dtype=self.reward_dtype, sees_both=self.sees_both)

    def assert_accounts(self, recorder: Any, **counts: int) -> None:
        """Assert the recorder's counts, and that `stepped` is the sum of them all.

        Args:
            recorder: The recorder.
            **counts: Expected `held`, `popped`, `sunk` and `dropped`; 0 where not given.
        """
        expected = {"held": 0, "popped": 0, "sunk": 0, "dropped": 0, **counts}
        assert {name: getattr(recorder, name) for name in expected} == expected
        assert recorder.stepped == sum(expected.values())
        assert recorder.n_transitions == recorder.held


def _wrapped(wrap: Callable[[Any], Any], env_fn: EnvFn) -> Any:
    return wrap(env_fn())
