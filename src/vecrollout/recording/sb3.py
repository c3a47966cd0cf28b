"""Recording from Stable-Baselines3 `VecEnv`s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from vecrollout._typing import Info, RecordInfos
from vecrollout.buffer import Ending, RolloutBuffer
from vecrollout.errors import MissingTerminalObservationError
from vecrollout.trajectory import Sink, TrajectoryWithRew
from vecrollout.transitions import TransitionsWithRew


class BufferingWrapper(VecEnvWrapper):
    """Wrapper."""

    def __init__(
        self,
        venv: VecEnv,
        error_on_premature_reset: bool = True,
        *,
        record_infos: RecordInfos = "all",
        sink: Sink | None = None,
        max_transitions: int | None = None,
        on_full: Literal["refuse", "drop_oldest"] = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        super().__init__(venv)
        self.error_on_premature_reset = error_on_premature_reset
        self._base = venv.unwrapped
        self._buffer = RolloutBuffer(
            venv.num_envs,
            record_infos=record_infos,
            sink=sink,
            max_transitions=max_transitions,
            on_full=on_full,
            early_reset=early_reset,
        )

    def reset(self, **kwargs: Any) -> Any:
        if self.error_on_premature_reset:
            self._buffer.check_reset()
        # The seeds are used up by the reset.
        seeds = list(getattr(self._base, "_seeds", ())) or None
        self._buffer.abort()
        obs = self.venv.reset(**kwargs)
        self._buffer.reset(obs, seeds, getattr(self._base, "reset_infos", None))
        return obs

    def step_async(self, actions: Any) -> None:
        self._buffer.act(actions)
        try:
            self.venv.step_async(actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def step_wait(self) -> Any:
        try:
            returned = obs, rews, dones, infos = self.venv.step_wait()
            flags = dones.tolist()
            endings = self._endings(flags, infos) if True in flags else ()
            self._buffer.step(obs, rews, infos, endings)
        except BaseException:
            self._buffer.abort()
            raise
        return returned

    def _endings(self, flags, infos):
        reset_infos = getattr(self._base, "reset_infos", None)
        endings = []
        for env, done in enumerate(flags):
            if done:
                info = dict(infos[env])
                truncated = bool(info.get("TimeLimit.truncated", False))
                endings.append(Ending(env, not truncated, truncated, info["terminal_observation"], info, reset_infos[env] if reset_infos else None))
        return endings

    def pop_transitions(self) -> TransitionsWithRew:
        return self._buffer.pop_transitions()

    def pop_trajectories(self):
        return self._buffer.pop_trajectories()

    def pop_finished_trajectories(self):
        return self._buffer.pop_finished_trajectories()

    @property
    def n_transitions(self):
        return self._buffer.held
