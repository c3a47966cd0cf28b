"""The order of items: batches of their numbers, by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vecrollout.data.checks import whole_number
from vecrollout.errors import OptionError, StateError

_MIXED_BLOCKS = 16
"""Items of so many blocks are shuffled together."""

_SHARED = ("items", "batch_size", "shuffle", "seed", "block", "drop_last", "world_size")
"""Fields that the order of all processes depends on."""


@dataclass
class BatchOrder:
    """Batches of items for one of several processes; all follow from the fields, the epoch and the batch's number."""

    items: int
    """Number of items."""
    batch_size: int
    """Items of a batch in one process."""
    shuffle: bool
    seed: int
    block: int | None
    """Items of a block, which stay near each other; None: all."""
    drop_last: bool
    rank: int
    world_size: int
    # Epoch and number of the group of blocks that was shuffled last, and its items.
    _last: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = field(default=None, init=False, repr=False)
    # The last epoch, the order of its blocks, and the item that the first block begins with.
    _blocks: tuple[int, npt.NDArray[np.int64], int] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("batch_size", 1), ("seed", 0), ("rank", 0), ("world_size", 1)):
            whole_number(name, getattr(self, name), least)
        if self.block is not None:
            whole_number("block", self.block, 1)
        if self.rank >= self.world_size:
            raise OptionError(f"rank: expected less than world_size, {self.world_size}, got {self.rank}")

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        whole, rest = divmod(self.items, self.batch_size * self.world_size)
        begin, end = self._share(rest)
        return whole + int(end > begin and not self.drop_last)

    def batch(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """Numbers of the items of a batch, shape `(n,)`."""
        before = number * self.batch_size * self.world_size
        begin, end = self._share(min(self.batch_size * self.world_size, self.items - before))
        begin, end = before + begin, before + end
        if not self.shuffle:
            return np.arange(begin, end)
        parts = []
        while begin < end:
            number, at = divmod(begin, self._group_items)
            parts.append(self._group(epoch, number)[at : at + end - begin])
            begin += len(parts[-1])
        return np.concatenate(parts)

    def state(self, epoch: int, number: int) -> dict[str, Any]:
        """A place in this order, as plain data."""
        return {"epoch": epoch, "batch": number, **{name: getattr(self, name) for name in _SHARED}}

    def position(self, state: Any) -> tuple[int, int]:
        """Epoch and batch of such a place; behind the last batch, the first of the next epoch."""
        ours = self.state(0, 0)
        if not isinstance(state, dict) or state.keys() != ours.keys():
            raise StateError(f"expected a state with {list(ours)}, got {state!r}")
        for name in _SHARED:
            if state[name] != ours[name]:
                raise StateError(
                    f"{name}: expected {ours[name]!r}, got the state of a sampler with {state[name]!r}, another order"
                )
        epoch, number = whole_number("epoch", state["epoch"], 0), whole_number("batch", state["batch"], 0)
        return (epoch, number) if number < len(self) else (epoch + 1, 0)

    @property
    def _group_items(self) -> int:
        """Items that are shuffled together."""
        return self.items if self.block is None else _MIXED_BLOCKS * self.block

    def _share(self, together: int) -> tuple[int, int]:
        """This process's part of a batch of all processes."""
        return together * self.rank // self.world_size, together * (self.rank + 1) // self.world_size

    def _group(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """Items of some blocks, shuffled."""
        if self._last is None or self._last[0] != (epoch, number):
            block = self.items if self.block is None else self.block
            order, offset = self._order_of_blocks(epoch, block)
            blocks = order[number * _MIXED_BLOCKS : (number + 1) * _MIXED_BLOCKS]
            items = (blocks[:, None] * block + np.arange(block)).reshape(-1)
            shuffled = np.random.default_rng((self.seed, epoch, number + 1)).permutation(items[items < self.items])
            self._last = (epoch, number), (shuffled + offset) % self.items
        return self._last[1]

    def _order_of_blocks(self, epoch: int, block: int) -> tuple[npt.NDArray[np.int64], int]:
        """Numbers of the blocks in the order of an epoch, and the item that the first block begins with."""
        if self._blocks is None or self._blocks[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            # Blocks begin at other items in each epoch, and so does the shorter one at the end.
            offset, whole = int(rng.integers(self.items)), self.items // block
            self._blocks = epoch, np.append(rng.permutation(whole), whole), offset
        return self._blocks[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Without the shuffled blocks and items, which are made anew."""
        return {**vars(self), "_last": None, "_blocks": None}
