"""The tests of `vecrollout.testing.conformance` for recorders that are Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vecrollout.testing.conformance import RecorderConformance
from vecrollout.testing.counting import EpisodeScript
from vecrollout.testing.scenario import Scenario
from vecrollout.testing.spaces import SPACES


class VectorRecorderConformance(RecorderConformance):
    """The tests for a recorder that is a Gymnasium `VectorEnv`, under any autoreset rule.

    Override `make_recorder`. Set `has_dead_calls = True` for next-step autoreset, and `resets_by_mask = True` without
    autoreset:

        class TestMyRecorder(VectorRecorderConformance):
            has_dead_calls = True

            def make_recorder(self, env_fns, **options):
                return MyRecorder(SyncVectorEnv(env_fns), **options)
    """

    spaces = tuple(SPACES)
    action_spaces = tuple(SPACES)
    reward_dtype = np.float64
    sees_both = True

    resets_by_mask: ClassVar[bool] = False
    """Whether environments wait for a `reset` with `options={"reset_mask": mask}` after an episode's end."""

    def reset(self, recorder: Any, seed: int | None = None) -> None:
        """Reset all environments."""
        recorder.reset(seed=seed)

    def step(self, recorder: Any, actions: Any) -> None:
        """Step all environments once. With `resets_by_mask`, reset the environments whose episode ended."""
        _, _, terminated, truncated, _ = recorder.step(actions)
        dones = np.logical_or(terminated, truncated)
        if self.resets_by_mask and dones.any():
            recorder.reset(options={"reset_mask": dones})


class EnvRecorderConformance(RecorderConformance):
    """The tests for a recorder that is a single `gymnasium.Env`.

    Override `make_recorder`; it gets a single function.
    """

    spaces = tuple(SPACES)
    action_spaces = tuple(SPACES)
    reward_dtype = np.float64
    sees_both = True

    def scenario(self, **changes: Any) -> Scenario:
        """One environment with all kinds of endings."""
        episodes = [[EpisodeScript(3), EpisodeScript(2, "truncated"), EpisodeScript(1), EpisodeScript(4, "both")]]
        return super().scenario(**{"episodes": episodes, **changes})

    def reset(self, recorder: Any, seed: int | None = None) -> None:
        """Reset the environment."""
        recorder.reset(seed=seed)

    def step(self, recorder: Any, actions: Any) -> None:
        """Step the environment once, and reset it if that ended its episode."""
        _, _, terminated, truncated, _ = recorder.step(_first(actions))
        if terminated or truncated:
            recorder.reset()


def _first(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return {key: _first(child) for key, child in batch.items()}
    return tuple(map(_first, batch)) if isinstance(batch, tuple) else batch[0]
