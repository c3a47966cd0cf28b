"""The sink that writes trajectories to disk."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import gymnasium
import numpy as np

from vecrollout._typing import Array
from vecrollout._version import __version__
from vecrollout.data.checks import check_function, whole_number
from vecrollout.data.plain import dumps
from vecrollout.data.trajectory import Trajectory
from vecrollout.errors import ArgumentTypeError, OptionError
from vecrollout.storage import closing
from vecrollout.storage.arrow import checksum, pa, warm_up
from vecrollout.storage.batches import Entry, check_episode
from vecrollout.storage.encoder import TraceEncoder
from vecrollout.storage.format import new_writer_name
from vecrollout.storage.infos import packed_info
from vecrollout.storage.layout import Layout
from vecrollout.storage.location import location_of
from vecrollout.storage.numbering import Numbering
from vecrollout.storage.spaces import space_to_json
from vecrollout.storage.worker import Worker
from vecrollout.storage.writing_sink import WritingSink

_MIN_SHARD_BYTES = 1 << 12


class TraceWriter(WritingSink):
    """Writes trajectories into a directory, where any number of other writers may write at the same time.

    A sink: recorders take it as `sink=`. Encoding and writing happen in a thread of their own, behind a queue of
    bounded size; `append` waits while the queue is full. What was appended is durable after the next `flush` or
    `close`, or once its shard is full. An error of the thread is raised by the next call, with what was lost; the
    writer is of no more use then, and what it had written before can be read.

    A writer that nobody closed is closed at the interpreter's exit, and by SIGTERM: where that signal would end the
    process, and the writer was made in the main thread, the process ends by it only when its writers are closed. A
    handler of one's own takes its place; it has to end the process by `sys.exit`, for example, or close the writers. A
    recorder whose sink the writer is hands over what is running before the writer closes. Threads that go on to step
    meanwhile wait for that: any thread may append, flush and close.

    Objects in a store do not grow: a shard is written in a temporary folder and put into the store when it is full, or
    at the next `flush` or `close`; each flush makes a shard of its own. Where the store fails, everything that was
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
        directory: Where to: a directory, which is made where it does not exist, or the URL of an object store, such
            as `s3://bucket/prefix`. May hold traces already.
        compression: `"zstd"`, `"lz4"`, or None: larger files, which are read without a copy.
        max_shard_bytes: Size after which a file is finished and the next one begun, in bytes; a file may be larger by
            what is written at once.
        spaces: Observation and action space, to be kept with the trace.
        metadata: What else is to be kept with the trace: plain data and arrays, by name.
        episode_metadata: Says what is to be kept with a trajectory, where `append` is not told.
        env_spec: The environment's `EnvSpec` as its `to_json` gives it, or anything else that names it.
        queue_bytes: What may wait to be written, in bytes of memory.

    Raises:
        OptionError: If an argument is outside what it may be.
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
    ) -> None:
        if compression not in ("zstd", "lz4", None):
            raise OptionError(f"compression: expected 'zstd', 'lz4' or None, got {compression!r}")
        max_shard_bytes = whole_number("max_shard_bytes", max_shard_bytes, _MIN_SHARD_BYTES)
        queue_bytes = whole_number("queue_bytes", queue_bytes, 1)
        if spaces is not None:
            _check_spaces(spaces)
        if episode_metadata is not None:
            check_function("episode_metadata", episode_metadata, "a trajectory")
        if not isinstance(env_spec, str | None):
            raise ArgumentTypeError(f"env_spec: expected text, got {type(env_spec).__name__}")
        metadata = checked_metadata(metadata or {})
        super().__init__()
        warm_up()
        location = location_of(directory)
        location.make()
        self.directory = location.path
        """Where to, as it was given: a `Path`, or the URL of an object store."""
        self.name = new_writer_name()
        """The writer's name, with which the names of all its files begin."""
        self._spaces = spaces
        self._dropped: Counter[str] = Counter()
        self._has_warned = False
        about = {
            "writer": self.name,
            "compression": compression,
            "versions": {
                "vecrollout": __version__,
                "gymnasium": gymnasium.__version__,
                "numpy": np.__version__,
                "pyarrow": pa.__version__,
            },
            "env_spec": env_spec,
            "spaces": None if spaces is None else [space_to_json(space) for space in spaces],
            "metadata": packed_info(metadata, self._dropped),
        }
        encoder = TraceEncoder(location, self.name, about, compression, max_shard_bytes, self._dropped)
        self._episode_metadata = episode_metadata
        # Recorders in several threads may have one writer.
        self._appending = threading.RLock()
        self._numbering = Numbering()
        self._layout: Layout | None = None
        self._worker = Worker(encoder, queue_bytes)
        closing.opened(self)

    @property
    def dropped_infos(self) -> dict[str, int]:
        """How many values of infos, reset infos and metadata could not be kept, by key."""
        return dict(self._dropped)

    def append(self, trajectory: Trajectory, /, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Take one trajectory. Blocks while the queue is full.

        Arrays that can be written to are copied; read-only ones, such as recorders hand out, and infos are not, and
        must not change until they are written.

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
        self._check_usable()
        self._worker.check()
        if not isinstance(trajectory, Trajectory):
            raise ArgumentTypeError(f"trajectory: expected a Trajectory, got {type(trajectory).__name__}")
        check_episode(trajectory.episode, len(trajectory))
        if metadata is None and self._episode_metadata is not None:
            metadata = self._episode_metadata(trajectory)
        described = None if metadata is None else self._described(metadata)
        with self._appending:
            layout = (self._layout or Layout.of(trajectory, self._spaces)).holding(getattr(trajectory, "rews", None))
            leaves = [leaf.copy() if leaf.flags.writeable else leaf for leaf in layout.leaves(trajectory)]
            self._layout = layout
            observed = leaves[: len(layout.obs.columns)]
            number = self._numbering.number(trajectory.episode, len(trajectory), lambda at: _digest(observed, at))
            self._worker.put(Entry(trajectory, layout, leaves, number, described))
        self._warn()

    def flush(self) -> None:
        """Write everything that was appended, and make it durable. Blocks until that is done.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
            TraceWriteError: If writing failed.
        """
        self._check_usable()
        for callback in [*self._before_flush]:
            callback()
        self._worker.flush()
        self._warn()

    def close(self) -> None:
        """Write everything, finish the last file, and stop. A second call does nothing.

        Raises:
            TraceWriteError: If writing failed since the last call.
        """
        if self._worker.has_ended or os.getpid() != self._process:
            return
        # One behind the other, also where one of them raises; the last that was put in comes first.
        with ExitStack() as stack:
            stack.callback(closing.closed, self)
            stack.callback(self._worker.close)
            if not self._worker.is_closed:
                for callback in [*self._before_close][::-1]:
                    stack.callback(callback)
        self._warn()

    def _is_closed(self) -> bool:
        return self._worker.is_closed

    def _described(self, metadata: Mapping[str, Any]) -> str:
        return dumps(packed_info(checked_metadata(metadata), self._dropped))

    def _warn(self) -> None:
        if self._dropped and not self._has_warned:
            self._has_warned = True
            keys = ", ".join(map(repr, self._dropped))
            warnings.warn(
                f"values of {keys} are neither plain data nor arrays and are left out of the trace; "
                "`dropped_infos` counts them",
                stacklevel=3,
            )


def checked_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user says about a trace or a trajectory.

    Raises:
        ArgumentTypeError: If it is no dict.
    """
    if not isinstance(metadata, Mapping):
        raise ArgumentTypeError(f"metadata: expected a dict, got {type(metadata).__name__}")
    return metadata


def _check_spaces(spaces: Any) -> None:
    is_pair = isinstance(spaces, tuple | list) and len(spaces) == 2
    if not is_pair or not all(isinstance(space, gymnasium.Space) for space in spaces):
        raise ArgumentTypeError(f"spaces: expected the observation space and the action space, got {spaces!r}")


def _digest(leaves: list[Array], row: int) -> str | None:
    """What tells one observation from another; None for objects, and for text, which is as wide as its longest."""
    if any(leaf.dtype.hasobject or leaf.dtype.kind in "SU" for leaf in leaves):
        return None
    return checksum(b"".join(leaf[row].tobytes() for leaf in leaves))
