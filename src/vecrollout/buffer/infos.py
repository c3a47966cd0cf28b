"""Infos of recorded steps."""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt

from vecrollout._typing import Array, Info


class InfoColumn:
    """Infos by row, as the other columns of a block.

    A step's infos are just appended to a list, as a tuple, which the garbage collector lets go of once it has seen that
    there are only plain dicts in it. They are put into rows when they are asked for.
    """

    __slots__ = ("_recent", "_rows", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: npt.NDArray[np.object_] | None = None
        self._recent: list[tuple[Array, tuple[Info, ...]]] = []

    def append(self, rows: Array, infos: tuple[Info, ...]) -> None:
        """Keep a step's infos, one for each of these rows; neither may be altered afterwards."""
        self._recent.append((rows, infos))

    def _store(self) -> None:
        """Put what was appended into its rows."""
        if not self._recent:
            return
        if self._rows is None:
            self._rows = np.empty(self._size, dtype=object)
        rows = np.concatenate([rows for rows, _ in self._recent])
        infos = chain.from_iterable([infos for _, infos in self._recent])
        self._rows[rows] = np.fromiter(infos, dtype=object, count=len(rows))
        self._recent.clear()

    def clear(self) -> None:
        """Let go of all infos."""
        self._rows = None
        self._recent.clear()

    def take(self, row: int, steps: int) -> npt.NDArray[np.object_]:
        """Infos of the steps that began in these rows, shape `(steps,)`: a view, to be copied."""
        self._store()
        return np.empty(steps, dtype=object) if self._rows is None else self._rows[row : row + steps]
