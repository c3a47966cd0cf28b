"""Recording from Gymnasium vector environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np

from vecrollout._typing import Array, Info, OnFull, RecordInfos
from vecrollout.buffer import BatchedInfos, Ending, Restart, RolloutBuffer, info_of
from vecrollout.data.trajectory import Sink
from vecrollout.errors import OptionError
from vecrollout.recording.autoreset import Autoreset, autoreset_of
from vecrollout.recording.batching import Batching
from vecrollout.recording.environments import VECTOR, check_kind
from vecrollout.recording.final_obs import (
    MissingFinalObs,
    final_info_of,
    final_obs_of,
    missing_final_obs,
    reset_info_of,
    without_finals,
)
from vecrollout.recording.recorder import Recorder

if TYPE_CHECKING or hasattr(gym.vector, "VectorWrapper"):
    _VectorWrapper = gym.vector.VectorWrapper
else:  # Gymnasium 0.29
    _VectorWrapper = gym.vector.VectorEnvWrapper


class VectorBufferingWrapper(Recorder, _VectorWrapper):
    """Records every step of a Gymnasium `VectorEnv` until it is popped.

    What `reset` and `step` return is the wrapped environment's own, unchanged; what is recorded is a copy. Each
    autoreset rule is followed: with next-step autoreset, the step in which an environment is reset is no transition;
    with same-step autoreset, the true last observation is taken from the infos; without autoreset, an episode is over
    until `reset` is called, with `options={"reset_mask": mask}` for some of the environments. An asynchronous EnvPool,
    which steps some of its environments at a time, is recorded through `async_reset`, `send` and `recv`.

    Args:
        env: The environment to wrap, E environments in all.
        error_on_premature_reset: Whether `reset` in the middle of an episode is refused while transitions are held.
        autoreset_mode: The rule by which the environment resets its sub-environments: `"next_step"`, `"same_step"` or
            `"disabled"`, or Gymnasium's `AutoresetMode`. None: as `env.metadata["autoreset_mode"]` says; for
            Gymnasium's own `SyncVectorEnv` and `AsyncVectorEnv` of versions that do not say it, that version's rule.
        missing_final_obs: What to do where a same-step environment does not give an episode's last observation:
            `"raise"`; `"drop"` the last transition, and count it as dropped; or `"mark"` it by
            `info["final_obs_missing"]` and repeat the observation before it.
        final_obs_fn: Where a same-step environment keeps last observations elsewhere: takes the infos of a step,
            returns the last observations of all environments (those of running ones are not looked at).
        record_infos: Which infos to keep: `"all"`, `"none"`, or those of the named keys.
        sink: Anything with `append(trajectory)`: it takes each finished trajectory at once, instead of its being held.
        max_transitions: The most transitions to hold, at least E; None: no limit.
        on_full: What to do when the next step would hold more: `"refuse"` it, `"drop_oldest"` finished trajectories, or
            `"hand_over"` the running fragments to the sink.
        early_reset: What becomes of running fragments when a reset is not refused: `"close"` makes finished
            trajectories of them (`episode.ended_by` is `"reset_early"`), `"drop"` drops and counts them.

    Raises:
        ArgumentTypeError: If `env` is no environment of that kind, or an option is of another kind than said here.
        OptionError: If an option is not one of these, or the autoreset rule is not known.

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
        record_infos: RecordInfos = "all",
        sink: Sink | None = None,
        max_transitions: int | None = None,
        on_full: OnFull = "refuse",
        early_reset: Literal["close", "drop"] = "close",
    ) -> None:
        check_kind(env, VECTOR)
        super().__init__(env)
        self.env: Any
        _forward_attributes(self, env)
        if missing_final_obs not in ("raise", "drop", "mark"):
            raise OptionError(f'missing_final_obs: expected "raise", "drop" or "mark", got {missing_final_obs!r}')
        self.error_on_premature_reset = error_on_premature_reset
        self.autoreset = autoreset_of(env, autoreset_mode)
        self._missing_final_obs = missing_final_obs
        self._final_obs_fn = final_obs_fn
        self._observations = Batching(env.single_observation_space)
        self._actions = Batching(env.single_action_space)
        self._buffer = RolloutBuffer(
            env.num_envs,
            record_infos=record_infos,
            sink=sink,
            max_transitions=max_transitions,
            on_full=on_full,
            early_reset=early_reset,
        )

    def reset(
        self, *, seed: int | Sequence[int | None] | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Reset all environments, or those of `options["reset_mask"]`.

        After a reset that failed in the wrapped environment, all have to be reset before the next step.

        Args:
            seed: None, a seed s (environment i gets s + i), or a seed for each environment (that is reset).
            options: Options for the environments; `"reset_mask"` is a mask of shape `(E,)`, bool.

        Returns:
            The wrapped environment's observations and infos.

        Raises:
            PrematureResetError: If transitions are held, `error_on_premature_reset` is True, and the reset is not one
                of finished environments by a mask. Nothing was reset.
            ShapeError, DtypeError, StructureError: If the observations are not like those held. These can be popped.
        """
        # The environment takes the mask out of the caller's dict.
        mask = None if options is None or "reset_mask" not in options else np.array(options["reset_mask"], dtype=bool)
        if self.error_on_premature_reset:
            self._buffer.check_reset(mask)
        try:
            obs, infos = self.env.reset(seed=seed, options=options)
        except BaseException:
            # Nobody knows which environments it reset before it failed.
            self._buffer.abort()
            raise
        num_envs = self._buffer.num_envs
        seeds = _seeds_of(seed, num_envs, mask)
        self._buffer.reset(self._observations.leaves(obs), seeds, BatchedInfos(infos, num_envs), mask)
        return obs, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Step all environments, and record it.

        A step that fails is not recorded; what was recorded before can be popped, and after a `reset` stepping goes on.
        What a sink raises passes through; the step is recorded then, and so is the trajectory that the sink refused.

        Args:
            actions: Actions, as the wrapped environment takes them.

        Returns:
            The wrapped environment's observations, rewards, terminations, truncations and infos.

        Raises:
            ProtocolError: If there was no `reset`, or a step failed since.
            BufferFullError: If the step would hold more than `max_transitions`. The environments were not stepped.
            MissingTerminalObservationError: If a same-step environment does not say an episode's last observation, and
                `missing_final_obs` is `"raise"`.
            ShapeError, DtypeError, StructureError: If something is not like what was recorded before.
        """
        self._buffer.act(self._actions.leaves(actions))
        return self._recorded(lambda: self.env.step(actions))

    def step_async(self, actions: Any) -> None:
        """The first half of `step`, for environments that have it (Gymnasium 0.29, `AsyncVectorEnv`)."""
        self._buffer.act(self._actions.leaves(actions))
        try:
            self.env.step_async(actions)
        except BaseException:
            self._buffer.withdraw()
            raise

    def step_wait(self, **kwargs: Any) -> tuple[Any, Any, Any, Any, Info]:
        """The second half of `step`; the errors of `step` apply."""
        return self._recorded(lambda: self.env.step_wait(**kwargs))

    def async_reset(self) -> None:
        """Begin to reset all environments of an EnvPool; `recv` brings their first observations.

        Raises:
            PrematureResetError: If transitions are held and `error_on_premature_reset` is True. Nothing was reset.

        Source:
            EnvPool 1.2: `async_reset`, `send`, `recv`, and `info["env_id"]`.
        """
        if self.error_on_premature_reset:
            self._buffer.check_reset()
        self.env.async_reset()
        self._buffer.await_episodes()

    def send(self, actions: Any, env_id: Array) -> None:
        """Let some environments of an EnvPool take actions.

        Args:
            actions: Actions, one for each of `env_id`.
            env_id: Which environments, shape `(n,)`, int: those that the last `recv` brought.

        Raises:
            ProtocolError: If there was no `async_reset`, or a step failed since.
            BufferFullError: If a step would hold more than `max_transitions`. The environments were not stepped.
            ShapeError, DtypeError, StructureError: If the actions are not like those held.
        """
        self._buffer.act(self._actions.leaves(actions), np.asarray(env_id))
        self.env.send(actions, env_id)

    def recv(self) -> tuple[Any, Any, Any, Any, Info]:
        """Wait for some environments of an EnvPool, and record what they did.

        Returns:
            The wrapped environment's observations, rewards, terminations, truncations and infos of those environments;
            `infos["env_id"]`, shape `(n,)`, says which.

        Raises:
            ProtocolError: If nothing was sent.
            ShapeError, DtypeError, StructureError: If something is not like what was recorded before.
        """
        return self._recorded(self.env.recv, are_some=True)

    def close(self, **kwargs: Any) -> None:
        """Close the environments and the running episodes, which can then be popped, or go to the sink (`"closed"`)."""
        try:
            self._buffer.close()
        finally:
            self.env.close(**kwargs)

    def __del__(self) -> None:
        # In older versions of Gymnasium (1.1 is one) a wrapper that goes closes its environment, which somebody may go
        # on to use. The environment itself still closes when nobody refers to it.
        pass

    def _recorded(self, step: Callable[[], Any], are_some: bool = False) -> tuple[Any, Any, Any, Any, Info]:
        # An environment that nothing was sent to might be waited for for ever.
        self._buffer.check_step()
        try:
            obs, rews, terminated, truncated, infos = returned = step()
            envs = np.asarray(infos["env_id"]) if are_some else None
            if np.ndim(rews) == 2 and len(rews[0]) == 1:
                # Of sub-environments whose rewards are arrays of shape (1,), AsyncVectorEnv makes a column.
                rews = np.reshape(rews, -1)
            self._record(obs, rews, terminated, truncated, infos, envs)
        except BaseException:
            self._buffer.abort()
            raise
        return returned  # type: ignore[no-any-return]

    def _record(self, obs: Any, rews: Any, terminated: Any, truncated: Any, infos: Info, envs: Array | None) -> None:
        buffer, mode = self._buffer, self.autoreset
        own = without_finals(infos) if mode is Autoreset.SAME_STEP else infos
        kept = BatchedInfos(own if buffer.keeps_infos else {}, len(rews), buffer.info_keys)
        restarts: Sequence[Restart] = ()
        if buffer.waiting and mode is Autoreset.NEXT_STEP:
            restarts = [Restart(at, info_of(own, at, len(rews))) for at in self._waiting_at(envs)]
        endings: Sequence[Ending] = ()
        dones = np.logical_or(terminated, truncated)
        # A search in bytes costs a fraction of `dones.any()`.
        if 1 in dones.tobytes():
            skipped = set(self._waiting_at(envs))
            ended = [at for at in dones.nonzero()[0].tolist() if at not in skipped]
            endings = [self._ending(at, bool(terminated[at]), bool(truncated[at]), infos, own, envs) for at in ended]
        buffer.step(self._observations.leaves(obs), rews, kept, endings, restarts, envs)

    def _waiting_at(self, envs: Array | None) -> list[int]:
        """Where in the step's arrays environments stand whose episode is over."""
        waiting = self._buffer.waiting
        if envs is None or not waiting:
            return sorted(waiting)
        return [at for at, env in enumerate(envs.tolist()) if env in waiting]

    def _ending(self, at: int, terminated: bool, truncated: bool, infos: Info, own: Info, envs: Array | None) -> Ending:
        if self.autoreset is not Autoreset.SAME_STEP:
            return Ending(at, terminated, truncated, None)
        count = self._buffer.num_envs if envs is None else len(envs)
        env = at if envs is None else int(envs[at])
        info = final_info_of(infos, own, at, count)
        reset_info = reset_info_of(own, at, count)
        final_obs = final_obs_of(infos, at, self._final_obs_fn)
        if final_obs is not None:
            final_obs = self._observations.item(final_obs)
        elif self._missing_final_obs == "raise":
            raise missing_final_obs(env, self._buffer.episode_steps(env))
        elif self._missing_final_obs == "mark":
            final_obs = self._buffer.current_obs(env)
            info["final_obs_missing"] = True
        return Ending(at, terminated, truncated, final_obs, info, reset_info, drops_last=final_obs is None)


def _seeds_of(seed: int | Sequence[int | None] | Array | None, num_envs: int, mask: Array | None) -> list[int | None]:
    """The seed that each environment gets; empty: not known."""
    if seed is None:
        return []
    if isinstance(seed, int):
        return [seed + env for env in range(num_envs)]
    seeds: list[int | None] = [None if each is None else int(each) for each in seed]
    if mask is None or len(seeds) == num_envs:
        return seeds
    # ALE's AtariVectorEnv takes a seed for each environment of the mask.
    given = iter(seeds)
    return [next(given, None) if is_reset else None for is_reset in mask.tolist()]


def _forward_attributes(wrapper: Any, env: Any) -> None:
    """Gymnasium 0.29's base class asks the wrapped environment for every attribute, with a warning each time."""
    if not hasattr(gym.vector, "VectorWrapper"):
        names = ("num_envs", "observation_space", "action_space", "single_observation_space", "single_action_space")
        for name in names:
            setattr(wrapper, name, getattr(env, name))
