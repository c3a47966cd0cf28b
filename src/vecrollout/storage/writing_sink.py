"""What all sinks that write have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from vecrollout.errors import ProtocolError

_Self = TypeVar("_Self", bound="WritingSink")


class WritingSink(ABC):
    """A sink that belongs to a process, and asks others for what they hold back before it flushes or closes."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._before_close: list[Callable[[], object]] = []
        self._before_flush: list[Callable[[], object]] = []

    def before_close(self, callback: Callable[[], object], /) -> Callable[[], None]:
        """Have a function called before the writer closes, so that it can still append.

        Args:
            callback: Takes no arguments.

        Returns:
            A function that calls this off.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
        """
        self._check_usable()
        self._before_close.append(callback)
        return lambda: self._before_close.remove(callback)

    def before_flush(self, callback: Callable[[], object], /) -> Callable[[], None]:
        """Have a function called before the writer flushes, so that it can append what it holds back.

        Args:
            callback: Takes no arguments.

        Returns:
            A function that calls this off.

        Raises:
            ProtocolError: If the writer is closed, or was made in another process.
        """
        self._check_usable()
        self._before_flush.append(callback)
        return lambda: self._before_flush.remove(callback)

    @abstractmethod
    def close(self) -> None:
        """Write everything, and stop."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _is_closed(self) -> bool:
        """Whether nothing more can be appended."""

    def _check_usable(self) -> None:
        if os.getpid() != self._process:
            raise ProtocolError("writer: expected a call from the process that made it; make one in each process")
        if self._is_closed():
            raise ProtocolError("writer: expected one that is open, got one that is closed")
