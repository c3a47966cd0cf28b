"""The sink that writes trajectories to disk."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import gymnasium
import numpy as np

from vecrollout import exits
from vecrollout._version import __version__
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, ProtocolError
from vecrollout.storage.arrow import pa, warm_up
from vecrollout.storage.codec.infos import packed_info
from vecrollout.storage.codec.spaces import space_to_json
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.names import new_writer_name
from vecrollout.storage.files.objects import shown
from vecrollout.storage.writing.encoding import TraceEncoder
from vecrollout.storage.writing.intake import Intake
from vecrollout.storage.writing.opening import check_spaces, remove_traces
from vecrollout.storage.writing.options import checked_metadata, checked_options
from vecrollout.storage.writing.shards import Shards
from vecrollout.storage.writing.thread import WriterThread

_Self = TypeVar("_Self", bound="TraceWriter")


@runtime_checkable
class Traces(Protocol):
    """Trajectories with spaces, spec and metadata, as in a `TraceDataset`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Trajectory]: ...

    def about(self, number: int, /) -> Mapping[str, Any]:
        """What is known of the trace that a trajectory is in."""

    def metadata_of(self, number: int, /) -> Mapping[str, Any]:
        """What is known of a trajectory."""


class TraceWriter:
    """Writes trajectories into a directory. Any number of other writers may write there at the same time.

    It is a sink: recorders take it as `sink=`. A background thread encodes and writes. `append` and `extend` put data
    into a queue of bounded size, and wait while it is full. Data is durable after the next `flush` or `close`, or once
    its shard is full. If the thread fails, the next call raises its error, which says which trajectories were lost.
    Open a new writer then. What the writer wrote before can be read.

    (`recording`, `id`) of its `episode` names a trajectory's episode. The writer ignores steps that it got before, so
    trajectories that a recorder offers again after Ctrl-C are not written twice. To write an altered copy of a
    trajectory beside the original, give it another `episode`. Trajectories without a recording or an id are always
    written.

    A writer that nobody closed is closed when the process ends: at the interpreter's exit, and by SIGTERM where the
    program does not handle that signal, which then ends it as `sys.exit(143)` would. Recorders close before writers.
    Any thread may append, flush and close.

    Objects in a store do not grow: a shard is written in a temporary folder and put into the store when it is full, or
    at the next `flush` or `close`; each flush makes a shard of its own. If the store fails, everything that was
    appended and is not in the store stays in such a folder, which the error names and `open_traces` reads.

    Examples:
        >>> import tempfile
        >>> from vecrollout import TrajectoryWithRew, open_traces
        >>> trajectory = TrajectoryWithRew(np.zeros((3, 4)), np.array([0, 1]), None, True, rews=np.ones(2))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with TraceWriter(directory) as writer:
        ...         writer.append(trajectory)
        ...     traces = open_traces(directory)
        ...     len(traces), traces[0] == trajectory
        (1, True)

    Args:
        directory: Where to write: a directory, which is made where it does not exist, or the URL of an object store,
            such as `s3://bucket/prefix`. May hold traces already. A relative path means the directory of now, also
            after `os.chdir`.
        compression: `"zstd"`, `"lz4"`, or None: larger files, which are read without a copy.
        max_shard_bytes: Size after which a file is finished and the next one begun, in bytes; a file may be larger by
            what is written at once.
        spaces: Observation and action space, to be kept with the trace.
        metadata: What else is to be kept with the trace: plain data and arrays, by name.
        episode_metadata: Says what is to be kept with a trajectory, where `append` is not told.
        env_spec: The environment's `EnvSpec` as its `to_json` gives it, or anything else that names it.
        queue_bytes: How much may wait to be written, in bytes of memory.
        flush_every_s: Seconds after which a trajectory is durable at the latest, above 0; None: not before `flush`,
            `close` or the end of its shard. Of a trace in an object store, the local folder is flushed.
        mix_spaces: Whether the directory may hold traces of other spaces.
        overwrite: Whether to remove the traces that the directory holds. An error about an argument removes nothing.

    Raises:
        OptionError: If an argument is outside what it may be, or the directory holds traces of other spaces.
        ProtocolError: If another writer is at work in a directory that is to be overwritten.
        ArgumentTypeError: If an argument is not of the kind that it should be.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
        StoreError: If the object store cannot be used.
        MissingDependencyError: If pyarrow or xxhash is not installed, or what the URL needs besides.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        compression: Literal["zstd", "lz4"] | None = "zstd",
        max_shard_bytes: int = 512 << 20,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        episode_metadata: Callable[[Trajectory], Mapping[str, Any] | None] | None = None,
        env_spec: str | None = None,
        queue_bytes: int = 256 << 20,
        flush_every_s: float | None = 1.0,
        mix_spaces: bool = False,
        overwrite: bool = False,
    ) -> None:
        options = checked_options(
            {
                "compression": compression,
                "max_shard_bytes": max_shard_bytes,
                "queue_bytes": queue_bytes,
                "flush_every_s": flush_every_s,
                "spaces": spaces,
                "episode_metadata": episode_metadata,
                "env_spec": env_spec,
                "metadata": metadata,
            }
        )
        warm_up()
        folder = folder_of(directory)
        self.directory = folder.path
        """Where it writes: the absolute `Path`, or the URL of an object store."""
        self.name = new_writer_name()
        """The writer's name, with which the names of all its files begin."""
        self._process = os.getpid()
        # A subclass may alter what it appends.
        self._has_other_append = type(self).append is not TraceWriter.append
        self._episode_metadata = episode_metadata
        self._dropped: Counter[str] = Counter()
        self._has_warned = False
        packed_spaces = None if spaces is None else [space_to_json(space) for space in spaces]
        # Written before the first trajectory.
        self._about = {
            "writer": self.name,
            "compression": compression,
            "versions": {
                "vecrollout": __version__,
                "gymnasium": gymnasium.__version__,
                "numpy": np.__version__,
                "pyarrow": pa.__version__,
            },
            "env_spec": env_spec,
            "spaces": packed_spaces,
            "metadata": packed_info(options["metadata"], self._dropped),
        }
        self._intake = Intake(spaces)
        folder.make()
        if overwrite:
            remove_traces(folder)
        elif packed_spaces is not None and not mix_spaces:
            check_spaces(folder, packed_spaces)
        shards = Shards(folder, self._about, compression, options["max_shard_bytes"])
        self._encoder = TraceEncoder(shards, self._about, self._dropped)
        self._thread = WriterThread(self._encoder, shards, options["queue_bytes"], options["flush_every_s"])
        exits.close_at_exit(self)

    @property
    def dropped_infos(self) -> dict[str, int]:
        """How many values of infos, reset infos and metadata could not be kept, by key."""
        return dict(self._dropped)

    def append(self, trajectory: Trajectory, /, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Take one trajectory. Blocks while the queue is full.

        Writable arrays are copied. Read-only ones, such as recorders hand out, and infos are not, and must not change
        until they are written.

        Args:
            trajectory: Like the first one in structure, dtypes and shapes; rewards may have another precision.
            metadata: What is to be kept with the trajectory; None: what `episode_metadata` says.

        Raises:
            ShapeError: If an array has items of another shape than in the first trajectory.
            DtypeError: If one has another dtype, a dtype that cannot be stored, a mask, text that UTF-8 cannot write,
                or objects that are neither plain data nor arrays.
            StructureError: If observations or actions have other entries, or keys that cannot be written.
            ArgumentTypeError: If it is no trajectory, has rewards and the first had none, or the other way round,
                metadata or the reset's info is no dict, or a number of its `episode` no integer.
            OptionError: If a number of its `episode` is too large, or it was ended by nothing that is known.
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If writing failed since the last call.
        """
        self._hand_over([trajectory], metadata)

    def extend(self, trajectories: Iterable[Trajectory], /) -> None:
        """Take several trajectories, all of them or, if one does not fit, none. Blocks while the queue is full.

        Of a `TrajectoryBatch` nothing is copied: the writer's thread gathers its columns. Its arrays and infos must not
        change until they are written. Other trajectories are joined to batches, which copies their arrays.

        Args:
            trajectories: A `TrajectoryBatch`, or any iterable of trajectories, like the first one that was appended.
                A `TraceDataset` also brings the metadata of its trajectories and, if nothing was appended before and
                the writer has none, its spaces, spec and metadata.

        Raises:
            ShapeError: As `append`; so are the others.
            DtypeError: If an array has another dtype, or one that cannot be stored.
            StructureError: If observations or actions have other entries.
            ArgumentTypeError: If something is no trajectory, or rewards are given for some trajectories only.
            OptionError: If a number of an `episode` is too large.
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If writing failed since the last call.
        """
        if not isinstance(trajectories, TrajectoryBatch) and isinstance(trajectories, Traces):
            self._extend_by(trajectories)
        elif self._has_other_append:
            for each in trajectories:
                self.append(each)
        elif not isinstance(trajectories, TrajectoryBatch):
            self._hand_over(list(trajectories), None)
        elif count := len(trajectories):
            self._check_process()
            described = self._episode_metadata and [self._described(each, None) for each in trajectories]
            self._thread.put(self._intake.of_batch(trajectories, count, described or None, self._encoder.info_bytes))
            if self._dropped:
                self._warn()

    def flush(self) -> None:
        """Write everything that was appended, and make it durable. Blocks until that is done.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If writing failed.
        """
        self._check_process()
        self._thread.flush()
        self._warn()

    def close(self) -> None:
        """Write everything, finish the last file, and stop. A second call does nothing.

        A call that was interrupted leaves the rest of the work to the next one.

        Raises:
            TraceWriteError: If writing failed since the last call.
        """
        if self._thread.has_ended or os.getpid() != self._process:
            return
        try:
            self._thread.close()
        finally:
            if self._thread.has_ended:
                exits.closed(self)
        self._warn()

    def __reduce__(self) -> Any:
        raise ProtocolError(
            f"{type(self).__name__}: expected one owner, as a writer cannot be copied or pickled; open another one for "
            "the same directory, also in another process"
        )

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._thread.is_closed else "open"
        return f"<TraceWriter {self.name} into {shown(self.directory)!r}, {state}>"

    def _extend_by(self, traces: Traces) -> None:
        """Take the trajectories of other traces, with their metadata."""
        if len(traces) and not self._intake.has_begun:
            self._adopt(traces.about(0))
        for i, each in enumerate(traces):
            metadata = None if self._episode_metadata is not None else traces.metadata_of(i)
            self.append(each, metadata=metadata or None)

    def _adopt(self, about: Mapping[str, Any]) -> None:
        """Say the same about this trace as another one does, unless the user said something else."""
        spaces = about["spaces"]
        if self._about["spaces"] is None and spaces is not None and None not in spaces:
            self._about["spaces"] = [space_to_json(space) for space in spaces]
            self._intake = Intake(spaces)
        if self._about["env_spec"] is None:
            self._about["env_spec"] = about.get("env_spec")
        if not self._about["metadata"]:
            self._about["metadata"] = packed_info(about["metadata"], self._dropped)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ProtocolError("writer: expected a call from the process that made it; make one in each process")

    def _hand_over(self, trajectories: list[Trajectory], metadata: Mapping[str, Any] | None) -> None:
        """Check trajectories, copy what can be written to, and put them into the queue."""
        self._check_process()
        self._thread.check_open()
        for trajectory in trajectories:
            if not isinstance(trajectory, Trajectory):
                raise ArgumentTypeError(f"trajectory: expected a Trajectory, got {type(trajectory).__name__}")
        notes = None
        if metadata is not None or self._episode_metadata is not None:
            notes = [self._described(trajectory, metadata) for trajectory in trajectories]
        for handed in self._intake.of_list(trajectories, notes, self._encoder.info_bytes):
            self._thread.put(handed)
        self._warn()

    def _described(self, trajectory: Trajectory, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the user says about a trajectory, as it is kept."""
        if metadata is None and self._episode_metadata is not None:
            metadata = self._episode_metadata(trajectory)
        return {} if metadata is None else {"metadata": packed_info(checked_metadata(metadata), self._dropped)}

    def _warn(self) -> None:
        if self._dropped and not self._has_warned:
            self._has_warned = True
            keys = ", ".join(map(repr, self.dropped_infos))
            warnings.warn(
                f"values of {keys} are neither plain data nor arrays and are left out of the trace; "
                "`dropped_infos` counts them",
                stacklevel=3,
            )
