"""Flags of episodes, which outlive the viewer. They are kept for the user, and not in the trace."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from vecrollout.errors import OptionError
from vecrollout.storage.files.whole import write_whole

Key: TypeAlias = tuple[Any, ...]
"""What names a trajectory: the name of its writer first, then whatever tells it from others of this writer."""


def folder() -> Path:
    """Where flags are kept: a folder for the state of programs, as the XDG Base Directory Specification names it."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "vecrollout", "flags")


class Flags:
    """The flagged trajectories of some traces, a small JSON file for each writer that has any.

    The names of writers are unique, so the flags stay with a trace that is moved or copied. Where the folder cannot be
    used, they last as long as this object.
    """

    def __init__(self) -> None:
        self._flagged: dict[str, set[Key]] = {}
        # False: files cannot be used, and `_flagged` is all there is.
        self._is_kept = True

    def of(self, writers: Iterable[str]) -> set[Key]:
        """The flagged trajectories of some writers.

        Raises:
            OptionError: If a file holds something else.
        """
        return {key for writer in writers for key in self._of_writer(writer)}

    def mark(self, key: Key, wanted: bool) -> None:
        """Flag a trajectory, or take its flag away.

        Raises:
            OptionError: If the file holds something else.
        """
        writer = key[0]
        # Read again, as another viewer may have added flags.
        flagged = self._of_writer(writer)
        (flagged.add if wanted else flagged.discard)(key)
        if self._is_kept:
            try:
                self._write(writer, flagged)
            except (OSError, RuntimeError) as error:
                self._give_up(error)

    def _of_writer(self, writer: str) -> set[Key]:
        if self._is_kept:
            try:
                self._flagged[writer] = self._read(writer)
            except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
                self._give_up(error)
        return self._flagged.setdefault(writer, set())

    def _read(self, writer: str) -> set[Key]:
        path = folder() / f"{writer}.json"
        try:
            return {(writer, *key) for key in json.loads(path.read_bytes())}
        except FileNotFoundError:
            return set()
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"{path}: expected the flags of episodes, got something else: {error}; delete the file"
            ) from error

    def _write(self, writer: str, flagged: set[Key]) -> None:
        path = folder() / f"{writer}.json"
        if flagged:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(sorted((key[1:] for key in flagged), key=repr)).encode())
        else:
            path.unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        self._is_kept = False
        warnings.warn(f"flags last only as long as this viewer, because they cannot be kept: {error}", stacklevel=2)
