"""The part of a recorder that faces the user of the data: pop, count, save, restore, act, close."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import exits
from vecrollout._typing import Array
from vecrollout.buffer import RolloutBuffer
from vecrollout.buffer.options import RecordOptions, check_options
from vecrollout.data.checks import whole_number
from vecrollout.data.foreign import as_array
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.data.transitions import TransitionsWithRew
from vecrollout.errors import ArgumentTypeError, OptionError, ProtocolError
from vecrollout.recording.batching import dtypes_to_cast
from vecrollout.recording.copies import check_copied, deep_copy
from vecrollout.recording.environments import layers_of, num_envs_of, spaces_of


class Advanced(NamedTuple):
    """The result of `Recorder.advance`."""

    obs: Any
    """Observations to act on, shape `(E, *obs_shape)`."""
    ended: npt.NDArray[np.bool_]
    """Whether the step ended each environment's episode, shape `(E,)`."""
    starts: npt.NDArray[np.bool_]
    """Whether each observation is the first of an episode, shape `(E,)`."""


class Recorder(ABC):
    """The interface that all recording wrappers share.

    After every call, also one that raised, `stepped == held + popped + delivered + dropped`.
    """

    _buffer: RolloutBuffer
    _is_closed = False

    owned_writer: exits.Closable | None = None
    """The writer that is closed with the recorder; None where the user closes it."""

    directory: Path | str
    """Where the recorder's own writer writes: a `Path`, or the URL of an object store. Other recorders have none."""

    def _record(self, env: Any, options: Mapping[str, Any]) -> None:
        """Make the buffer; its running fragments go to a sink that closes also where the process ends first."""
        warn_of_inner_recorders(env)
        check_options(options, type(self), RecordOptions)
        checked = RecordOptions(**options)
        self._buffer = RolloutBuffer(num_envs_of(env), checked, dtypes=dtypes_to_cast(checked, spaces_of(env)))
        if callable(getattr(checked.sink, "close", None)):
            exits.close_at_exit(self._buffer)

    def own(self, writer: exits.Closable, directory: Path | str) -> None:
        """Close this writer when the recorder is closed.

        Args:
            writer: The writer that the recorder's sink writes to.
            directory: Where it writes.
        """
        self.owned_writer, self.directory = writer, directory

    @abstractmethod
    def restart(self) -> Any:
        """Reset all environments.

        Returns:
            First observations, shape `(E, *obs_shape)`; E is 1 for a single environment.
        """

    @abstractmethod
    def advance(self, acts: Any) -> Advanced:
        """Step all environments, and reset those that do not reset themselves.

        Args:
            acts: Actions, shape `(E, *act_shape)`; E is 1 for a single environment.

        Returns:
            The observations to act on, and the environments whose episodes ended and began.
        """

    def annotate(self, env_id: Any = None, /, **arrays: Any) -> None:
        """Record arrays with the next step, such as what the policy computed beside its actions.

        Call it before the step (or between `step_async` and `step_wait`). Row i belongs to environment i and to the
        action that it takes in that step. `infos[t][name]` of a trajectory is the row of the t-th action, and a trace
        has a typed column `info.<name>`. Annotations are recorded whatever `record_infos` selects. They take the place
        of an info of the same name, with a warning. Rows of environments whose step is no transition are dropped. A
        second call before the step adds arrays, or replaces those of the same name. If the step fails, its annotations
        are dropped too.

        Args:
            env_id: For an asynchronous EnvPool: the environments of the rows, shape `(n,)`, int, as for `send`. Their
                rows wait until `recv` brings these environments. None: all environments.
            **arrays: Arrays of shape `(E, ...)`, any dtype, by name. The recorder copies them. Give each array of a
                tuple a name of its own. E is 1 for a single environment.

        Raises:
            ProtocolError: If there was no `reset`, or a step failed since.
            OptionError: If the recorder has `record_infos="none"`, or a name begins with an underscore.
            ShapeError: If an array does not have a row for each environment.
            ArgumentTypeError: If a value is a tuple or a dict of arrays.

        Examples:
            >>> import numpy as np
            >>> from stable_baselines3.common.env_util import make_vec_env
            >>> from vecrollout import BufferingWrapper
            >>> venv = BufferingWrapper(make_vec_env("CartPole-v1", n_envs=2))
            >>> obs = venv.reset()
            >>> venv.annotate(values=np.array([0.5, 0.25]), log_probs=np.array([-0.7, -0.6]))
            >>> returned = venv.step(np.array([0, 1]))
            >>> [float(each.infos[0]["values"]) for each in venv.pop_trajectories()[0]]
            [0.5, 0.25]
        """
        self._buffer.annotate(arrays, None if env_id is None else as_array(env_id, "env_id"))

    def pop_transitions(self) -> TransitionsWithRew:
        """Pop all transitions: those of finished trajectories, then those of running fragments.

        Returns:
            The transitions in the order of `pop_trajectories`, as copies.

        Raises:
            EmptyBufferError: If the recorder holds no transitions.
        """
        return self._buffer.pop_transitions()

    def pop_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Pop all trajectories, fragments of running episodes included.

        Returns:
            Trajectories and episode lengths. The finished trajectories come first, in the order of their ends (within
            a step, by environment), then the running fragments by environment. Their arrays are read-only. The lengths
            are those of whole completed episodes, in steps, also where earlier fragments of them were popped before.
            `([], [])` if the recorder holds nothing.
        """
        return self._buffer.pop_trajectories()

    def pop_finished_trajectories(self) -> tuple[list[TrajectoryWithRew], list[int]]:
        """Pop finished trajectories; the recorder keeps the running fragments.

        Returns:
            As `pop_trajectories`, without the running fragments.
        """
        return self._buffer.pop_finished_trajectories()

    def discard_episode(self, env: int | None = None) -> int:
        """Drop the running episode of an environment, such as a failed demonstration.

        Its steps so far are dropped, those that were popped or delivered before excepted. The steps until its end are
        not recorded. If no episode runs or the running one has no steps yet, the environment's last finished episode is
        dropped. The environment itself goes on.

        Args:
            env: Index of the environment. None: the only one.

        Returns:
            The number of transitions that were dropped; `dropped` counts them. 0 if the running episode is dropped
            already.

        Raises:
            EmptyBufferError: If the recorder holds no steps of such an episode. A sink receives an episode when it
                ends, and keeps it.
            OptionError: If there is no such environment.
            ArgumentTypeError: If `env` is not an integer, or None and there are several.

        Examples:
            >>> import gymnasium as gym
            >>> from vecrollout import BufferingEnvWrapper
            >>> env = BufferingEnvWrapper(gym.make("CartPole-v1"))
            >>> obs, info = env.reset(seed=0)
            >>> returned = [env.step(0) for _ in range(5)]
            >>> env.discard_episode()
            5
            >>> env.held, env.dropped
            (0, 5)
        """
        envs = self._buffer.num_envs
        if env is None and envs > 1:
            raise ArgumentTypeError(f"env: expected the index of one of {envs} environments, got None")
        index = 0 if env is None else whole_number("env", env, 0)
        if index >= envs:
            raise OptionError(f"env: expected an index below {envs}, the number of environments, got {index}")
        return self._buffer.discards.episode(index)

    def discard_last(self) -> int:
        """Drop the episode that finished last, of any environment; of one step, that of the last environment.

        Returns:
            The number of transitions that were dropped; `dropped` counts them.

        Raises:
            EmptyBufferError: If the recorder holds no finished episode. A sink receives an episode when it ends, and
                keeps it.
        """
        return self._buffer.discards.last()

    def state_dict(self) -> dict[str, Array]:
        """The held transitions, the running fragments and the counters as a flat dict of arrays without pickle.

        `np.savez(file, **recorder.state_dict())` stores it. The environments' own state is not part of it.

        Returns:
            The state, for `load_state_dict`.

        Raises:
            StateError: If an info holds something that is neither plain data nor an array.
        """
        return self._buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the recorder's transitions and counters by those of `state_dict`.

        Running episodes go on if you bring the environments to the same state; otherwise `reset` them.

        Args:
            state: A state from `state_dict`, or from the file that it was stored in.

        Raises:
            StateError: If the state does not fit this recorder. The recorder is unchanged.
        """
        self._buffer.load_state_dict(state)

    def flush(self) -> None:
        """Make every delivered trajectory durable. Blocks until the recorder's own writer has written them.

        Raises:
            ProtocolError: If the recorder does not own a writer that flushes.
            TraceWriteError: If writing failed.
        """
        flush = getattr(self.owned_writer, "flush", None)
        if flush is None:
            raise ProtocolError(
                "flush: expected a recorder with a writer of its own, as record_traces makes it; flush its sink"
            )
        flush()

    def _check_open(self) -> None:
        """Refuse a reset whose steps could not be written."""
        if self.owned_writer is not None and self._is_closed:
            raise ProtocolError("reset: expected an open recorder, got one whose trace is closed; record a new one")

    def _close(self, close_envs: Callable[[], object]) -> None:
        """Close the running episodes, the environments and an owned writer, each also where another one failed."""
        self._is_closed = True
        closes = [self._buffer.close, lambda: exits.closed(self._buffer), close_envs]
        if self.owned_writer is not None:
            closes.append(self.owned_writer.close)
        try:
            exits.close_each(*closes)  # after an interrupt the next call closes the rest
        except Exception as error:
            if self.held:
                error.add_note(f"{self!r} keeps the undelivered transitions; pop_trajectories returns them")
            raise

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles are made of."""
        check_copied(self)
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A recorder around copies of the environments, with what this one holds. A copy writes nothing to disk."""
        copied = deep_copy(self, memo, (self.owned_writer, self._buffer.options.sink))
        vars(copied).pop("directory", None)
        return copied

    @property
    def n_transitions(self) -> int:
        """Transitions that can be popped: `held`, under imitation's name."""
        return self.held

    @property
    def held(self) -> int:
        """Transitions that can be popped."""
        return self._buffer.held

    @property
    def stepped(self) -> int:
        """Transitions recorded so far: E a step."""
        return self._buffer.stepped

    @property
    def popped(self) -> int:
        """Transitions popped so far."""
        return self._buffer.popped

    @property
    def delivered(self) -> int:
        """Transitions that the sink took so far."""
        return self._buffer.delivered

    @property
    def sunk(self) -> int:
        """Another name of `delivered`."""
        return self._buffer.delivered

    @property
    def dropped(self) -> int:
        """Transitions dropped so far: by `discard_episode`, `discard_last`, or options such as `on_full`."""
        return self._buffer.dropped

    def __repr__(self) -> str:
        names = ("stepped", "held", "popped", "delivered", "dropped")
        counters = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"<{type(self).__name__}: num_envs={self._buffer.num_envs}, {counters}>"

    def __str__(self) -> str:
        return repr(self)  # Gymnasium's wrappers have one of their own


def warn_of_inner_recorders(env: Any) -> None:
    """Warn where a vector environment that is recorded has recorders inside: they hold the same steps once more."""
    base = getattr(env, "unwrapped", env)
    envs = base.envs if isinstance(base, DummyVecEnv | gym.vector.SyncVectorEnv) else []
    for i, each in enumerate(envs):
        inner = [layer for layer in layers_of(each) if isinstance(layer, Recorder) and layer.owned_writer is None]
        if inner:
            warnings.warn(
                f"environment {i} of the {type(base).__name__} has a {type(inner[0]).__name__} of its own, which holds "
                "the same steps until they are popped there. Leave it out: the recorder around the vector environment "
                "records all environments",
                stacklevel=4,
            )
            return
