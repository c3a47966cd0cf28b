"""Recording from single Gymnasium environments, also inside a vector environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat, Unpack

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor

from vecrollout._typing import Info
from vecrollout.buffer import Ending, Restart, deep_copied
from vecrollout.data.foreign import as_array
from vecrollout.errors import ShapeError
from vecrollout.recording.autoreset import Autoreset
from vecrollout.recording.batching import Batching
from vecrollout.recording.environments import SINGLE, check_kind, layers_of
from vecrollout.recording.final_obs import FINAL_INFO, FINAL_OBS, with_statistics, without_finals, without_statistics
from vecrollout.recording.recorder import Advanced, Recorder

if TYPE_CHECKING:
    from vecrollout.buffer.options import RecordOptionsDict

_INTEGERS = frozenset({int, np.int64})
_NO_INFOS: list[Info] = [{}]


class BufferingEnvWrapper(Recorder, gym.Wrapper[Any, Any, Any, Any]):
    """Records every step of a single `gymnasium.Env` until you pop it, like a vector environment of one.

    `reset` and `step` return the environment's own values, unchanged. The recorder copies them. You may always `reset`
    after an episode's end. If one of Gymnasium's own wrappers resets the environment (`Autoreset`, or
    `AutoResetWrapper` of 0.29), the recorder records the true last observations. Put the recorder directly around
    0.29's wrapper: other wrappers do not pass its last observations on.

    Args:
        env: The environment to wrap.
        error_on_premature_reset: Whether the recorder refuses a `reset` in the middle of an episode while it holds
            transitions.
        **options: The options of all recorders: `record_infos`, `sink`, `max_transitions`, `on_full`, `early_reset`,
            `cast`.
            `RecordOptions` describes them.

    Raises:
        ArgumentTypeError: If `env` is not a single environment, an option does not exist, or it has another type.
        OptionError: If an option has another value than described.

    Examples:
        >>> env = BufferingEnvWrapper(gym.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=0)
        >>> obs, rew, terminated, truncated, info = env.step(1)
        >>> env.pop_transitions().next_obs.shape
        (1, 4)
    """

    def __init__(
        self, env: gym.Env[Any, Any], error_on_premature_reset: bool = True, **options: Unpack[RecordOptionsDict]
    ) -> None:
        check_kind(env, SINGLE)
        super().__init__(env)
        self.error_on_premature_reset = error_on_premature_reset
        self._observations = Batching(env.observation_space)
        self._actions = Batching(env.action_space)
        self._autoreset = _autoreset_of(env)
        # Most actions and rewards go in by these, which the buffer copies.
        self._act = np.zeros(1, np.int64)
        self._rew = np.zeros(1)
        self._record(env, options)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Info]:
        """Reset the environment.

        Args:
            seed: Passed on to the environment, and recorded.
            options: Passed on to the environment.

        Returns:
            The environment's own observation and info.

        Raises:
            PrematureResetError: If the recorder holds transitions, `error_on_premature_reset` is True, and the episode
                has not ended. The environment was not reset.
            ShapeError, DtypeError, StructureError: If the observation is not like the recorded ones. You can still pop
                these.
        """
        self._check_open()
        if self.error_on_premature_reset:
            self._buffer.check_reset(np.ones(1, dtype=bool))
        is_refused = _refuses_reset(self.env)
        try:
            obs, info = self.env.reset(seed=seed, options=options)
            self._buffer.reset(self._observations.of_one(obs), [seed], [info])
        except BaseException:
            # If nothing was reset, the episode goes on.
            if not is_refused:
                self._buffer.abort()
            raise
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        """Step the environment, and record the step.

        A step that fails is not recorded. You can pop the steps before it, and go on after a `reset`.

        Args:
            action: Passed on to the environment.

        Returns:
            The environment's own observation, reward, terminated, truncated and info.

        Raises:
            ProtocolError: If there was no `reset`, or a step failed since.
            BufferFullError: If the recorder would hold more than `max_transitions`. The environment was not stepped.
            ShapeError, DtypeError, StructureError: If a value is not like the recorded ones.
        """
        buffer = self._buffer
        if type(action) in _INTEGERS and self._actions.is_plain:
            acts = self._act
            acts[0] = action
        else:
            acts = self._actions.of_one(action)
        buffer.act(acts)
        try:
            returned = obs, rew, terminated, truncated, info = self.env.step(action)
            infos = [deep_copied(info) if info else {}] if buffer.keeps_infos else _NO_INFOS
            endings, restarts = (), ()
            try:
                has_changes = terminated or truncated or buffer.waiting
            except (ValueError, RuntimeError) as error:  # a truth value of an array
                raise _several_flags(terminated) from error
            if has_changes:
                endings, restarts = self._changes(bool(terminated), bool(truncated), info)
            if type(rew) is float:
                rews = self._rew
                rews[0] = rew
            else:
                # A reward may be an array of shape (1,), or a vector.
                rews = as_array(rew, "rew")
                rews = rews.reshape(-1) if rews.size == 1 else rews[np.newaxis]
            is_plain = type(obs) is np.ndarray and self._observations.is_plain
            batch = obs[np.newaxis] if is_plain else self._observations.of_one(obs)
            buffer.step(batch, rews, infos, endings, restarts)
        except BaseException:
            buffer.abort()
            raise
        return returned

    def restart(self) -> Any:
        """Reset the environment.

        Returns:
            The first observation, as a batch of one.
        """
        return self._observations.of_one(self.reset()[0])

    def advance(self, acts: Any) -> Advanced:
        """Step the environment, and reset it if the step ended the episode.

        Args:
            acts: The action, as a batch of one.

        Returns:
            The observation to act on, and whether the episode ended, as batches of one.
        """
        obs, _, terminated, truncated, _ = self.step(self._actions.only(acts))
        ended = np.array([bool(terminated or truncated)])
        first_or_next = self.restart() if self._buffer.discards.over else self._observations.of_one(obs)
        return Advanced(first_or_next, ended, ended)

    def close(self) -> None:
        """Close the environment and the running episode.

        The running fragment (`episode.ended_by` is `"closed"`) goes to the sink, or can be popped. A writer of the
        recorder's own is closed too.
        """
        self._close(self.env.close)

    def _changes(self, terminated: bool, truncated: bool, info: Info) -> tuple[Any, Any]:
        """The episodes that a step ended and began."""
        own = deep_copied(info)
        if self._buffer.discards.over:
            # The environment's flags mean nothing between an episode's end and the reset.
            return (), [Restart(0, own)] if self._autoreset is Autoreset.NEXT_STEP else ()
        if not (terminated or truncated):
            return (), ()  # of a discarded episode
        # A time limit around the wrapper that resets may end episodes that this wrapper does not end.
        if self._autoreset is not Autoreset.SAME_STEP or FINAL_OBS not in own:
            return [Ending(0, terminated, truncated, None, own)], ()
        final_obs, others = self._observations.item(own[FINAL_OBS]), without_finals(own)
        last_info, reset_info = with_statistics(own[FINAL_INFO], others), without_statistics(others)
        return [Ending(0, terminated, truncated, final_obs, last_info, reset_info)], ()


def _several_flags(terminated: Any) -> ShapeError:
    shape = tuple(getattr(terminated, "shape", ()))
    return ShapeError(
        f"terminated: expected one flag of a single environment, got shape {shape}; a batched environment needs an "
        "attribute num_envs, and VectorBufferingWrapper"
    )


def _refuses_reset(env: gym.Env[Any, Any]) -> bool:
    """Whether a `Monitor(allow_early_resets=False)` of Stable-Baselines3 will raise instead of resetting."""
    monitors = (layer for layer in layers_of(env) if isinstance(layer, Monitor))
    return any(not monitor.allow_early_resets and not monitor.needs_reset for monitor in monitors)


def _autoreset_of(env: gym.Env[Any, Any]) -> Autoreset:
    """The rule of Gymnasium's wrapper that resets, if there is one: 0.29's in the same step, since 1.0 in the next."""
    for name, rule in (("AutoResetWrapper", Autoreset.SAME_STEP), ("Autoreset", Autoreset.NEXT_STEP)):
        wrapper = getattr(gym.wrappers, name, None)
        if wrapper is not None and any(isinstance(layer, wrapper) for layer in layers_of(env)):
            return rule
    return Autoreset.DISABLED
