"""Trajectories in a file of another library, which are read when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar, overload

import gymnasium

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.grouping import grouped
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ProtocolError

_Self = TypeVar("_Self", bound="FileTrajectories")


@dataclass(frozen=True)
class About:
    """What a file says about its data."""

    spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None
    env_spec: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class EpisodeFile(Protocol):
    """An open file of episodes."""

    @property
    def about(self) -> About:
        """What the file says about its data."""

    def __len__(self) -> int:
        """Number of trajectories."""

    def trajectory(self, number: int) -> Trajectory:
        """Read a trajectory."""

    def close(self) -> None:
        """Close the file."""


class FileTrajectories(Sequence[Trajectory]):
    """Trajectories in a file of another library, which are read when they are asked for.

    Use it in a `with` statement, or call `close`. It can be pickled: the file is opened anew where it is unpickled.

    Args:
        opener: Opens the file; called with `arguments`.
        arguments: Path of the file, and options of the opener.
    """

    def __init__(self, opener: Callable[..., EpisodeFile], arguments: tuple[Any, ...]) -> None:
        self._opened = opener, arguments
        self._file = opener(*arguments)
        self._is_closed = False

    @property
    def observation_space(self) -> gymnasium.Space[Any] | None:
        """Observation space; None where the file does not say."""
        spaces = self._file.about.spaces
        return spaces[0] if spaces else None

    @property
    def action_space(self) -> gymnasium.Space[Any] | None:
        """Action space; None where the file does not say."""
        spaces = self._file.about.spaces
        return spaces[1] if spaces else None

    @property
    def env_spec(self) -> str | None:
        """The environment's `EnvSpec` as JSON; None where the file does not say."""
        return self._file.about.env_spec

    @property
    def metadata(self) -> dict[str, Any]:
        """What else the file says about its data."""
        return self._file.about.metadata

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories as columns, some at a time.

        Raises:
            DamagedTraceError: If the file cannot be read.
            ProtocolError: If it is closed.
        """
        return grouped(self)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._is_closed = True
        self._file.close()

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self._file)

    @overload
    def __getitem__(self, key: int) -> Trajectory: ...

    @overload
    def __getitem__(self, key: slice) -> list[Trajectory]: ...

    def __getitem__(self, key: int | slice) -> Trajectory | list[Trajectory]:
        """One trajectory, or a list of several.

        Raises:
            IndexError: If there is no such trajectory.
            DamagedTraceError: If it cannot be read.
            ProtocolError: If the file is closed.
        """
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        number = operator.index(key)
        if not -len(self) <= number < len(self):
            raise IndexError(f"expected the index of one of {len(self)} trajectories, got {number}")
        if self._is_closed:
            raise ProtocolError("trajectories: expected an open file, got one that is closed")
        return self._file.trajectory(number % len(self))

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._opened

    def __repr__(self) -> str:
        return f"<FileTrajectories: {len(self)} trajectories in {str(self._opened[1][0])!r}>"
