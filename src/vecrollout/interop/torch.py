"""PyTorch datasets, samplers and loaders over steps, windows and n-step transitions.

loader = data_loader(traces.steps(), 256, num_workers=4, pin_memory=True)
for batch in loader:
    loss(batch["obs"], batch["acts"])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import whole_number
from vecrollout.data.sampling.items import Items
from vecrollout.data.sampling.order import BatchOrder
from vecrollout.data.trees import unwrap
from vecrollout.errors import DtypeError, MissingDependencyError, OptionError

try:
    import torch
    from torch import distributed
    from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info
except ImportError as error:
    raise MissingDependencyError("vecrollout.interop.torch needs torch: pip install torch") from error

__all__ = ["BatchSampler", "ItemDataset", "ItemStream", "Loader", "data_loader"]


class ItemDataset(Dataset[Any]):
    """A map-style dataset of items, for torch's `DataLoader`.

    `dataset[3]` is a dict of the tensors of one item, `dataset[[3, 1, 2]]` one of a batch, read at once. The fields are
    those of the batches that `items` make; `infos` is a list of dicts, and there only where `items` read infos. Tensors
    have the arrays' dtypes. Rows are copied once, from where they lie into the batch.

    Args:
        items: What `steps`, `windows` or `n_step` of a batch or data set return.
    """

    def __init__(self, items: Items[Any]) -> None:
        self.items = items
        """The items."""

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        """One item, or a batch of several (a slice, or integers in one dimension)."""
        if isinstance(key, slice) or np.ndim(key):
            return _tensors(self.items[key], self.items)
        return {name: _row(value, 0) for name, value in _tensors(self.items[[key]], self.items).items()}

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Several items, one dict each, read at once: what `DataLoader` asks for where it makes the batches itself."""
        batch = _tensors(self.items[np.asarray(keys, np.int64)], self.items)
        return [{name: _row(value, i) for name, value in batch.items()} for i in range(len(keys))]


class BatchSampler(Sampler[npt.NDArray[np.int64]]):
    """Numbers of items, a batch at a time, in an order that depends on the seed and the epoch only.

    Each process of a distributed run gets other items; together they get each item once an epoch. Use it as the
    `sampler` of a `DataLoader` with `batch_size=None`, or let `data_loader` do so.

    Each iteration is an epoch of its own, also after one that was broken off.

    Args:
        items: The items, or anything else with a length.
        batch_size: Items of a batch in this process. The last batch of an epoch may be smaller.
        shuffle: Whether items come in random order.
        seed: Seed of the order; the same in all processes.
        block: Shuffle by blocks of so many neighboring items: the blocks, and the items of sixteen blocks at a time.
            Batches then come from few places of the files, and the sampler needs less memory. None: shuffle all items,
            with 8 bytes of memory an item.
        drop_last: Whether to leave out the last batch if it is not full.
        rank: Number of this process, in `[0, world_size)`; None: what `torch.distributed` says.
        world_size: Number of processes; None: what `torch.distributed` says.

    Raises:
        OptionError: If a number is out of range, or only one of `rank` and `world_size` is given.
        ArgumentTypeError: If a number is no integer.
    """

    def __init__(
        self,
        items: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        block: int | None = None,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if rank is None and world_size is None:
            is_distributed = distributed.is_available() and distributed.is_initialized()
            rank, world_size = (distributed.get_rank(), distributed.get_world_size()) if is_distributed else (0, 1)
        if rank is None or world_size is None:
            raise OptionError(f"expected rank and world_size, or neither, got {rank} and {world_size}")
        self.order = BatchOrder(len(items), batch_size, shuffle, seed, block, drop_last, rank, world_size)
        """The batches of each epoch."""
        # Epoch and number of the batch after the last that was taken out, and of that with which the next epoch begins.
        self._at = self._upcoming = 0, 0

    def __len__(self) -> int:
        """Number of batches of an epoch in this process. Processes may differ by one, unless `drop_last` is set."""
        return len(self.order)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        """The batches of the next epoch, or the rest of one after `load_state_dict`."""
        epoch, begin = self.begin_epoch()
        for number in range(begin, len(self)):
            batch = self.order.batch(epoch, number)
            self._at = epoch, number + 1
            yield batch

    def begin_epoch(self) -> tuple[int, int]:
        """Count an epoch as begun, whoever reads its batches.

        Returns:
            Its number, and the number of its first batch, which is 0 unless a state was loaded.
        """
        self._at = self._upcoming
        self._upcoming = self._at[0] + 1, 0
        return self._at

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, as with torch's `DistributedSampler`.

        Args:
            epoch: Number of the epoch, 0 or more.

        Raises:
            OptionError: If it is negative.
            ArgumentTypeError: If it is no integer.
        """
        self._at = self._upcoming = whole_number("epoch", epoch, 0), 0

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Where the iteration is.

        Args:
            batches: How many batches of the epoch are done. None: those that were taken out of this sampler. A
                `DataLoader` with workers takes batches out ahead of time; `Loader` counts those that it delivered.

        Returns:
            Plain data, the same in all processes.

        Raises:
            OptionError: If `batches` is negative.
            ArgumentTypeError: If `batches` is no integer.
        """
        epoch, number = self._at
        return self.order.state(epoch, number if batches is None else whole_number("batches", batches, 0))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where another one was.

        Args:
            state: What `state_dict` returned, of a sampler with the same items and options.

        Raises:
            StateError: If the state is of other items, options or processes.
        """
        self._at = self._upcoming = self.order.position(state)


class ItemStream(IterableDataset[Any]):
    """An iterable dataset of whole batches, which the workers of a `DataLoader` share among them.

    Use it with `DataLoader(stream, batch_size=None)`. Batches and their order are the same with any number of workers.
    With workers call `sampler.set_epoch` before each epoch. Persistent workers count epochs themselves.

    Args:
        items: What `steps`, `windows` or `n_step` of a batch or data set return.
        sampler: Says which items come when.
    """

    def __init__(self, items: Items[Any], sampler: BatchSampler) -> None:
        self.dataset = ItemDataset(items)
        """The items."""
        self.sampler = sampler
        """Says which items come when."""

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of an epoch; in a worker its share of them."""
        worker = get_worker_info()
        first, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch, begin = self.sampler.begin_epoch()
        for number in range(begin + first, len(self.sampler), workers):
            yield self.dataset[self.sampler.order.batch(epoch, number)]


class Loader:
    """Batches of tensors from a `DataLoader`, which can be stopped after any batch and continued.

    Each iteration is an epoch of its own, also after one that was broken off. `data_loader` makes loaders.

    Args:
        items: What `steps`, `windows` or `n_step` of a batch or data set return.
        sampler: Says which items come when.
        options: Of torch's `DataLoader`.
    """

    def __init__(self, items: Items[Any], sampler: BatchSampler, options: dict[str, Any]) -> None:
        self.sampler = sampler
        """Says which items come when."""
        self._epoch = _Epoch(sampler.order)
        self._batches = DataLoader(ItemDataset(items), batch_size=None, sampler=self._epoch, **options)
        self._delivered: int | None = None

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of the next epoch, or the rest of one after `load_state_dict`."""
        self._epoch.epoch, self._epoch.begin = self.sampler.begin_epoch()
        self._delivered = self._epoch.begin
        for number, batch in enumerate(self._batches, self._epoch.begin + 1):
            self._delivered = number
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is: after the batch that was delivered last. Plain data, the same in all processes."""
        return self.sampler.state_dict(self._delivered)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where another one was; its batches are the same bit for bit.

        Args:
            state: What `state_dict` returned, of a loader with the same items and options. The number of workers may
                differ.

        Raises:
            StateError: If the state is of other items, options or processes.
        """
        self.sampler.load_state_dict(state)
        self._delivered = None


def data_loader(
    items: Items[Any],
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    block: int | None = None,
    drop_last: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    **options: Any,
) -> Loader:
    """A loader of whole batches of tensors: each item once an epoch, by any number of workers and processes.

    Batches are dicts of tensors, as from `ItemDataset`. Which items come when depends on the seed and the epoch only.

    Args:
        items: What `steps`, `windows` or `n_step` of a batch or data set return.
        batch_size: As in `BatchSampler`.
        shuffle: As in `BatchSampler`.
        seed: As in `BatchSampler`.
        block: As in `BatchSampler`.
        drop_last: As in `BatchSampler`.
        rank: As in `BatchSampler`.
        world_size: As in `BatchSampler`.
        **options: Of torch's `DataLoader`, such as `num_workers`, `pin_memory` and `multiprocessing_context`. Each
            worker reads the trace for itself, and keeps up to `memory_bytes` of it.

    Raises:
        OptionError: If a number is out of range, or only one of `rank` and `world_size` is given.
        ArgumentTypeError: If a number is no integer.
    """
    sampler = BatchSampler(
        items,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        block=block,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
    )
    return Loader(items, sampler, options)


class _Epoch(Sampler[npt.NDArray[np.int64]]):
    """The batches of one epoch, which a `Loader` chooses."""

    def __init__(self, order: BatchOrder) -> None:
        self.order = order
        self.epoch = self.begin = 0

    def __len__(self) -> int:
        return len(self.order) - self.begin

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        epoch = self.epoch
        return (self.order.batch(epoch, number) for number in range(self.begin, len(self.order)))


def _tensors(batch: Any, items: Items[Any]) -> dict[str, Any]:
    """The fields of a batch as tensors in the same memory."""
    fields = {name: value for name, value in vars(batch).items() if value is not None}
    infos = fields.pop("infos", None)
    tensors = {name: _tensor(name, unwrap(value)) for name, value in fields.items()}
    if infos is not None and items.has_infos:
        tensors["infos"] = infos.tolist()
    return tensors


def _tensor(name: str, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _tensor(f"{name}[{key!r}]", value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_tensor(f"{name}[{i}]", value) for i, value in enumerate(tree))
    try:
        return torch.from_numpy(tree)
    except (TypeError, ValueError) as error:
        raise DtypeError(f"{name}: expected numbers that torch has, got {tree.dtype}") from error


def _row(value: Any, i: int) -> Any:
    """A row of each tensor."""
    if isinstance(value, dict):
        return {key: _row(each, i) for key, each in value.items()}
    return tuple(_row(each, i) for each in value) if isinstance(value, tuple) else value[i]
