"""Recording from Gymnasium vector environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import gymnasium as gym
import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.data.foreign import as_array
from vecrollout.recording.autoreset import Autoreset, autoreset_of
from vecrollout.recording.batched_env import BatchedEnv
from vecrollout.recording.environments import (
    VECTOR,
    VectorWrapper,
    check_kind,
    layers_of,
    spaces_of,
)
from vecrollout.recording.final_obs import MissingFinalObs, checked_missing
from vecrollout.recording.flags import as_flags, reset_mask_of
from vecrollout.recording.recorder import Advanced, Recorder
from vecrollout.recording.vector_steps import VectorSteps

if TYPE_CHECKING:
    from vecrollout.buffer.options import RecordOptionsDict


class VectorBufferingWrapper(Recorder, VectorWrapper):
    """Records every step of a Gymnasium `VectorEnv`, or of a batched `gymnasium.Env`, until you pop it.

    `reset` and `step` return the wrapped environment's own values, unchanged. The recorder copies them. It follows each
    autoreset rule. With next-step autoreset, the step that resets an environment is not a transition. With same-step
    autoreset, the recorder takes the true last observation from the infos. Without autoreset, an episode is over until
    you call `reset`, with `options={"reset_mask": mask}` for some of the environments. An asynchronous EnvPool, which
    steps some of its environments at a time, is recorded through `async_reset`, `send` and `recv`.

    Arrays of other libraries (torch, JAX, CuPy), on any device, are recorded as NumPy arrays. A batched `gymnasium.Env`
    has an attribute `num_envs`, and returns arrays or tensors with a row an environment, as Isaac Lab's and ManiSkill's
    do.

    Args:
        env: The environment to wrap, E environments in all.
        error_on_premature_reset: Whether the recorder refuses a `reset` in the middle of an episode while it holds
            transitions.
        autoreset_mode: The rule by which the environment resets its sub-environments: `"next_step"`, `"same_step"` or
            `"disabled"`, or Gymnasium's `AutoresetMode`. None: the rule in `env.metadata["autoreset_mode"]`; for
            Gymnasium's own `SyncVectorEnv` and `AsyncVectorEnv` of versions that do not state it, that version's rule.
        missing_final_obs: What to do if a same-step environment does not give an episode's last observation:
            `"raise"`; `"drop"` the last transition, and count it as dropped; or `"mark"` it by
            `info["final_obs_missing"]` and repeat the observation before it.
        final_obs_fn: For a same-step environment that keeps last observations elsewhere. It takes the infos of a step
            and returns the last observations of all environments; the recorder ignores those of running episodes.
        **options: The options of all recorders: `record_infos`, `sink`, `max_transitions`, `on_full`, `early_reset`,
            `cast`.
            `RecordOptions` describes them.

    Raises:
        ArgumentTypeError: If `env` is not a vector environment, an option does not exist, or it has another type.
        OptionError: If an option has another value than described, or the autoreset rule is not known.

    Examples:
        >>> env = VectorBufferingWrapper(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2))
        >>> obs, info = env.reset(seed=0)
        >>> obs, rews, terminated, truncated, info = env.step(np.array([0, 1]))
        >>> trajectories, lengths = env.pop_trajectories()
        >>> [trajectory.episode.seed for trajectory in trajectories]
        [0, 1]

    Source:
        `gymnasium.vector` (Gymnasium 0.29 to 1.4): `AutoresetMode`, `SyncVectorEnv.step`, `VectorEnv._add_info`.
    """

    def __init__(
        self,
        env: Any,
        error_on_premature_reset: bool = True,
        *,
        autoreset_mode: str | Any | None = None,
        missing_final_obs: MissingFinalObs = "raise",
        final_obs_fn: Callable[[Info], Any] | None = None,
        **options: Unpack[RecordOptionsDict],
    ) -> None:
        check_kind(env, VECTOR)
        if not isinstance(env, gym.vector.VectorEnv):
            env = BatchedEnv(env, spaces_of(env))
        super().__init__(env)
        self.env: Any
        _forward_attributes(self, env)
        self.error_on_premature_reset = error_on_premature_reset
        missing_final_obs = checked_missing(missing_final_obs)
        if autoreset_mode is None:
            inner = (layer.autoreset for layer in layers_of(env) if isinstance(layer, VectorBufferingWrapper))
            autoreset_mode = next(inner, None)
        self.autoreset: Autoreset = autoreset_of(env, autoreset_mode)
        self._record(env, options)
        self._steps = VectorSteps(self._buffer, spaces_of(env), self.autoreset, missing_final_obs, final_obs_fn)

    def reset(
        self, *, seed: int | Sequence[int | None] | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Reset all environments, or those of `options["reset_mask"]`.

        After a reset that failed in the wrapped environment, you have to reset all environments before the next step.

        Args:
            seed: None, a seed s (environment i gets s + i), or a seed for each environment (that is reset).
            options: Options for the environments; `"reset_mask"` is a mask of shape `(E,)`, bool.

        Returns:
            The wrapped environment's observations and infos.

        Raises:
            PrematureResetError: If the recorder holds transitions, `error_on_premature_reset` is True, and the mask
                does not select finished environments only. The environments were not reset.
            ShapeError, DtypeError, StructureError: If the observations are not like the recorded ones. You can still
                pop these.
        """
        self._check_open()
        # Before the environment takes it out of the caller's dict.
        mask = reset_mask_of(options, self._buffer.num_envs)
        if self.error_on_premature_reset:
            self._buffer.check_reset(mask)
        try:
            obs, infos = self.env.reset(seed=seed, options=options)
            if isinstance(self.env, BatchedEnv) and isinstance(seed, int):
                seed = [seed] * self._buffer.num_envs  # of its one generator
            self._steps.reset(obs, infos, seed, mask)
        except BaseException:
            # It is unknown which environments were reset before the failure.
            self._buffer.abort()
            raise
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Step all environments, and record the step.

        A step that fails is not recorded. You can pop the steps before it, and go on after a `reset`. If the sink
        raises, its error passes through. The step is recorded, and the trajectory that the sink refused stays held.

        Args:
            actions: Actions, as the wrapped environment takes them.

        Returns:
            The wrapped environment's observations, rewards, terminations, truncations and infos.

        Raises:
            ProtocolError: If there was no `reset`, or a step failed since.
            BufferFullError: If the recorder would hold more than `max_transitions`. The environments were not stepped.
            MissingTerminalObservationError: If a same-step environment does not give an episode's last observation, and
                `missing_final_obs` is `"raise"`.
            ShapeError, DtypeError, StructureError: If a value is not like the recorded ones.
        """
        self._steps.act(actions)
        try:
            returned = self.env.step(actions)
            self._steps.record(returned)
        except BaseException:
            self._buffer.abort()
            raise
        return returned  # type: ignore[no-any-return]

    def step_async(self, actions: Any) -> None:
        """Begin a step, for environments whose step has two halves (Gymnasium 0.29, `AsyncVectorEnv`).

        Args:
            actions: Actions, as the wrapped environment takes them.

        Raises:
            ProtocolError: If there was no `reset`, a step failed since, or the last actions wait for `step_wait`.
            BufferFullError: If the recorder would hold more than `max_transitions`. The environments were not stepped.
            ShapeError, DtypeError, StructureError: If the actions are not like the recorded ones.
        """
        self._steps.act(actions)
        try:
            self.env.step_async(actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def step_wait(self, **kwargs: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Finish a step, and record it. The errors of `step` apply.

        Args:
            **kwargs: Passed on to the wrapped environment.

        Returns:
            As `step`.
        """
        return self._recorded(lambda: self.env.step_wait(**kwargs))

    def async_reset(self) -> None:
        """Begin to reset all environments of an EnvPool; `recv` brings their first observations.

        Raises:
            PrematureResetError: If the recorder holds transitions and `error_on_premature_reset` is True. The
                environments were not reset.

        Source:
            EnvPool 1.2: `async_reset`, `send`, `recv`, and `info["env_id"]`.
        """
        self._check_open()
        if self.error_on_premature_reset:
            self._buffer.check_reset()
        try:
            self.env.async_reset()
            self._buffer.await_episodes()
        except BaseException:
            self._buffer.abort()
            raise

    def send(self, actions: Any, env_id: Array) -> None:
        """Let some environments of an EnvPool take actions.

        Args:
            actions: Actions, one for each of `env_id`.
            env_id: Indices of the environments, shape `(n,)`, int: those that the last `recv` brought.

        Raises:
            ProtocolError: If there was no `async_reset`, or a step failed since.
            BufferFullError: If the recorder would hold more than `max_transitions`. The environments were not stepped.
            ShapeError, DtypeError, StructureError: If the actions are not like the recorded ones.
        """
        self._steps.act(actions, as_array(env_id, "env_id"))
        self.env.send(actions, env_id)

    def recv(self) -> tuple[Any, Any, Any, Any, Info]:
        """Wait for some environments of an EnvPool, and record their steps.

        Returns:
            The wrapped environment's observations, rewards, terminations, truncations and infos of these environments;
            `infos["env_id"]`, shape `(n,)`, has their indices.

        Raises:
            ProtocolError: If nothing was sent.
            ShapeError, DtypeError, StructureError: If a value is not like the recorded ones.
        """
        return self._recorded(self.env.recv, are_some=True)

    def restart(self) -> Any:
        """Reset all environments.

        Returns:
            First observations, as the wrapped environment returns them, E rows.
        """
        return self.reset()[0]

    def advance(self, acts: Any) -> Advanced:
        """Step all environments, and reset those whose episode ended if they do not reset themselves.

        Args:
            acts: Actions, shape `(E, *act_shape)`.

        Returns:
            The observations to act on, and the environments whose episodes ended and began.
        """
        count = self._buffer.num_envs
        over = np.zeros(count, dtype=bool)
        over[[*self._buffer.discards.over]] = True
        obs, _, terminated, truncated, _ = self.step(acts)
        ended = (as_flags(terminated, count, "terminated") | as_flags(truncated, count, "truncated")) & ~over
        if self.autoreset is Autoreset.NEXT_STEP:
            return Advanced(obs, ended, over)
        if self.autoreset is Autoreset.DISABLED and ended.any():
            # A copy, as the environment may keep the mask.
            options: dict[str, Any] = {"reset_mask": ended.copy()}
            if isinstance(self.env, BatchedEnv):
                options["env_idx"] = np.flatnonzero(ended)
            first_obs, _ = self.reset(options=options)
            # The rows of environments that were not reset need not be their current observations.
            obs = self._steps.observations.merged(ended, first_obs, obs)
        return Advanced(obs, ended, ended)

    def close(self, **kwargs: Any) -> None:
        """Close the environments and the running episodes.

        The running fragments (`episode.ended_by` is `"closed"`) go to the sink, or can be popped. A writer of the
        recorder's own is closed too.

        Args:
            **kwargs: Passed on to the wrapped environment.
        """
        self._close(lambda: self.env.close(**kwargs))

    def __del__(self) -> None:
        # In older versions of Gymnasium (1.1 is one) a wrapper that is deleted closes its environment, which may still
        # be in use. The environment itself closes when nobody refers to it.
        pass

    def _recorded(self, step: Callable[[], Any], are_some: bool = False) -> tuple[Any, Any, Any, Any, Info]:
        """The second half of a step, recorded."""
        # An environment that nothing was sent to might never answer.
        self._buffer.check_step()
        try:
            returned = step()
            self._steps.record(returned, as_array(returned[-1]["env_id"], "env_id") if are_some else None)
        except BaseException:
            self._buffer.abort()
            raise
        return returned  # type: ignore[no-any-return]


def _forward_attributes(wrapper: Any, env: Any) -> None:
    """Gymnasium 0.29's base class asks the wrapped environment for every attribute, with a warning each time."""
    if not hasattr(gym.vector, "VectorWrapper"):
        names = ("num_envs", "observation_space", "action_space", "single_observation_space", "single_action_space")
        for name in names:
            setattr(wrapper, name, getattr(env, name))
