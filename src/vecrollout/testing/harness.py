"""What a conformance suite does with a recorder: makes it, drives it, and compares what it hands out."""

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
"""How many calls a scenario has in most tests."""

EnvFn = Callable[[], gym.Env[Any, Any]]


class RecorderHarness:
    """The hooks that a subclass overrides, and what the tests of all suites share."""

    spaces: ClassVar[Sequence[str]] = VEC_ENV_SPACES
    """Names of the observation spaces to test, from `vecrollout.testing.SPACES`."""

    action_spaces: ClassVar[Sequence[str]] = ("box", "box_scalar", "discrete", "multi_discrete", "multi_binary")
    """Names of the action spaces to test."""

    reward_dtype: ClassVar[type[np.floating[Any]]] = np.float32
    """What rewards that are Python floats become on their way to the recorder."""

    sees_both: ClassVar[bool] = False
    """Whether the recorder can see that a step terminated and was truncated; else it sees just the former."""

    has_dead_calls: ClassVar[bool] = False
    """Whether the call after an episode's end resets that environment instead of stepping it."""

    def make_recorder(self, env_fns: Sequence[EnvFn], **options: Any) -> Any:
        """A new recorder over new environments.

        Args:
            env_fns: A function for each environment that makes it.
            **options: For the recorder: `error_on_premature_reset`, `early_reset`, `sink`, `max_transitions`, `on_full`
                and `record_infos`, none of them at times.

        Raises:
            NotImplementedError: Until it is overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} has to override make_recorder")

    def reset(self, recorder: Any, seed: int | None = None) -> None:
        """Reset all environments.

        Args:
            recorder: What `make_recorder` returned.
            seed: Environment i gets `seed + i`. None: no seeds.
        """
        if seed is not None:
            recorder.seed(seed)
        recorder.reset()

    def step(self, recorder: Any, actions: Any) -> None:
        """Step all environments once.

        Args:
            recorder: What `make_recorder` returned.
            actions: Actions, shape `(E, *act_shape)`; a dict or tuple of arrays for Dict and Tuple action spaces.
        """
        recorder.step(actions)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that takes a `space` or an `action_space` for each of them.

        Args:
            metafunc: What pytest knows about the test.
        """
        for argument, names in {"space": self.spaces, "action_space": self.action_spaces}.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, names)

    @pytest.fixture
    def recorder_of(self) -> Iterator[Callable[..., Any]]:
        """Makes a recorder for a scenario and resets it; all of them are closed after the test."""
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
            recorder: A recorder of the scenario's environments, reset.
            scenario: What to do.
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
            trajectories: What the recorder handed out.
            expected: What it should have handed out.
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
