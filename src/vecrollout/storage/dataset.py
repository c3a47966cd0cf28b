"""Data sets of trajectories on disk, and views of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from vecrollout.data.checks import whole_number
from vecrollout.data.curating import Rewards
from vecrollout.errors import ProtocolError
from vecrollout.progress import Progress
from vecrollout.storage.derived import Derived
from vecrollout.storage.describing import stats_of
from vecrollout.storage.order import Order
from vecrollout.storage.reading.reader import MEMORY_BYTES, Paths, TraceReader
from vecrollout.storage.rewriting import write_trace
from vecrollout.storage.stored import StoredTrajectories


def open_traces(path: Paths, *, check: bool = True, memory_bytes: int = MEMORY_BYTES) -> TraceDataset:
    """Open the trajectories in a directory of traces.

    Only the writers' journals are read. A trace that is still being written opens too, and so does a directory in which
    no trace has begun; `refresh` shows what has been written since. A shard whose journal is missing is left out with a
    warning, and so is a directory that holds nothing but other files.

    Args:
        path: The directory that `TraceWriter`s wrote to, or the URL of an object store, such as `s3://bucket/prefix`.
            Several of them are read as one data set. A relative directory is the one at the time of opening. `~` is
            the home directory.
        check: Whether to compare each batch with its checksum when it is first read.
        memory_bytes: Limit of what `sample_transitions` and the like keep in memory. Columns of small rows are kept
            whole where they fit, and batches of the others.

    Returns:
        The data set. Trajectories are ordered by directory, then by writer, and then by the start of their episode.

    Raises:
        TraceNotFoundError: If there is no such directory.
        DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
        TraceVersionError: If a newer version of the package wrote one of the files.
        ArgumentTypeError: If `path` is neither a path nor a URL.
        OptionError: If the URL cannot be used, there is no path, or the same one twice.
        StoreError: If the object store fails.
        MissingDependencyError: If pyarrow, xxhash or a package that the URL needs is not installed.
    """
    reader = TraceReader.opened(path, check, whole_number("memory_bytes", memory_bytes, 0))
    if not len(reader):
        reader.warn_of_another_place()
    return TraceDataset(Order.of(reader))


class TraceDataset(StoredTrajectories):
    """Trajectories in one or more directories of traces, or some of them: a view.

    `open_traces` makes a data set of everything in a directory. Slices, lists of numbers and masks of it are data sets
    too, and so are the results of `filter`, `sort_by`, `select`, `split`, `concat`, `trim` and `relabel`. None of them
    copies data.

    Trajectories are read when they are asked for, and the batches that were used last are kept, up to 64 MiB of each
    directory. Arrays are read-only. Arrays of a trace without compression are views of the file, which must not change
    while they are in use.

    A data set can be pickled, for the workers of a `DataLoader` for example. It is opened anew where it is unpickled.

    Args:
        order: Which trajectories, in which order.
    """

    def refresh(self) -> None:
        """See what was written since the data set was opened. Trajectories may move to other numbers.

        Views that were made before stay as they are.

        Raises:
            ProtocolError: If this is a view; refresh the data set that `open_traces` returned.
            DamagedTraceError: If a journal is damaged, or a shard is missing or cut off.
            TraceVersionError: If a newer version of the package wrote one of the files.
            StoreError: If the object store fails.
        """
        readers = [source for source in self.order.sources if isinstance(source, TraceReader)]
        if not self.order.is_all or len(readers) < len(self.order.sources):
            raise ProtocolError("refresh: expected the data set that open_traces returned, got a view of it")
        self.order = Order.of(*(reader.refreshed() for reader in readers))

    def _relabeled(self, rewards: Rewards) -> Self:
        return type(self)(Order.of(Derived.relabeled(self.order, rewards)))

    def stitched(self) -> Self:
        """The same steps with fragments joined where they follow one another in an episode.

        An episode of which steps are missing in between comes as several trajectories. Episodes are in the order of
        their first fragments.

        Raises:
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        return type(self)(Order.of(Derived.joined(self.order)))

    def whole_episodes(self) -> Self:
        """Episodes with all their steps, from the reset to the end that the environment gave them.

        Fragments of an episode are joined. Incomplete episodes are left out; `stitched` keeps them.

        Raises:
            DamagedTraceError: If the trace cannot be read, or is not what was written.
        """
        joined = self.stitched()
        names = ("start_step", "terminated", "truncated")
        start, terminated, truncated = (joined.table.column(name).to_numpy() for name in names)
        return joined.select((start == 0) & (terminated | truncated))

    @property
    def stats(self) -> dict[str, float]:
        """`n_traj`, `return_{min,mean,std,max}`, `len_{min,mean,std,max}` of whole episodes, as in `rollout_stats`."""
        return stats_of(self.whole_episodes().table)

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        compression: Literal["zstd", "lz4"] | None = "zstd",
        max_shard_bytes: int = 512 << 20,
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> TraceDataset:
        """Write these trajectories as a new trace. This is how to delete, merge, compact, and recompress.

        Spaces, environment spec, metadata and the identity of episodes are kept. Memory does not grow with the trace.

        A local directory appears when it is complete: a process that is killed leaves at most a temporary directory
        beside it, `.<name>.<random>.tmp`. An object store cannot do that: it shows what was written so far.

        Like every trace, the new one is read by the start of episodes, whatever the order of this view.

        Args:
            path: A new or empty directory, or the URL of an object store.
            compression: As in `TraceWriter`.
            max_shard_bytes: As in `TraceWriter`.
            metadata: Metadata of the new trace; None: that of these traces. Traces with different metadata keep their
                own.
            progress: Whether to show a progress bar on a terminal if it takes long, and whose (`"tqdm"`, `"rich"`);
                None: where one of them is installed.

        Returns:
            The new trace, opened.

        Raises:
            OptionError: If the directory has files, a step of an episode comes twice, or an argument is out of range.
            ArgumentTypeError: If `path` is neither a path nor a URL, or an argument has another type.
            DamagedTraceError: If a trace cannot be read, or is not what was written.
            TraceWriteError: If the directory cannot be written.
            StoreError: If an object store fails.
            MissingDependencyError: If the package of the progress bar is not installed.
        """
        write_trace(
            self.order, path, metadata, progress, {"compression": compression, "max_shard_bytes": max_shard_bytes}
        )
        return open_traces(path)
