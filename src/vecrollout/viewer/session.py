"""One viewing of a trace: the data set as it grows, what is worked out from it, and the flags."""

from __future__ import annotations

import itertools
import os
import shlex
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vecrollout.data.choosing import Numbers
from vecrollout.report.overview import ENDINGS, columns_of, facts, overview
from vecrollout.storage.dataset import TraceDataset
from vecrollout.storage.files.objects import shown
from vecrollout.viewer import episode, images
from vecrollout.viewer.episodes import Episodes, window
from vecrollout.viewer.flags import Flags

_LIVE_S = 10.0
"""A trace that grew so recently is being recorded."""

_MOST_COMMAND_BYTES = 100_000
"""Linux limits an argument to 128 KiB."""


class Session:
    """What the server knows. It belongs to one thread.

    Args:
        dataset: What `open_traces` returned.
    """

    def __init__(self, dataset: TraceDataset) -> None:
        self._dataset = dataset
        self._flags = Flags()
        self._seen = self._files()
        self._version = 0
        self._grown_at = -np.inf
        # A refresh of a large trace takes its time, so the next one waits as long, several times.
        self._next_look = 0.0
        self._begin_version()

    def _begin_version(self) -> None:
        self._episodes = Episodes(self._dataset.table)
        flags = self._flags.of(self._episodes.writers)
        keys = self._episodes.keys() if flags else []
        self._flagged = {number for number, key in enumerate(keys) if key in flags}
        self._made: dict[str, Any] = {}

    def status(self) -> dict[str, Any]:
        """How much there is now, and whether it grows. Looks for what was written since."""
        now = time.monotonic()
        files = self._files() if now >= self._next_look else self._seen
        if files != self._seen or (files is None and now >= self._next_look):
            before = len(self._dataset)
            self._dataset.refresh()
            self._seen = files
            if len(self._dataset) != before:
                self._version += 1
                self._grown_at = now
                self._begin_version()
            self._next_look = now + max(0.3, 5 * (time.monotonic() - now))
        return {
            "version": self._version,
            "name": ", ".join(map(shown, self._dataset.order.paths)),
            "trajectories": len(self._dataset),
            "steps": self._dataset.total_steps,
            "is_live": now - self._grown_at < _LIVE_S,
            "flagged": len(self._flagged),
        }

    def overview(self) -> dict[str, Any]:
        """The numbers of the overview."""
        return self._kept("overview", lambda: {**overview(self._dataset), "version": self._version})

    def columns(self) -> dict[str, Any]:
        """Statistics of each column."""
        return self._kept("columns", lambda: columns_of(self._dataset))

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Some rows of the episode table."""
        numbers = self._episodes.matching(query, self._flagged)
        part = window(query, len(numbers))
        rows = self._episodes.rows(numbers[part])
        return {
            "version": self._version,
            "trajectories": len(self._episodes),
            "matching": len(numbers),
            "flagged": len(self._flagged),
            "offset": part.start,
            "rows": [{**row, "flagged": row["number"] in self._flagged} for row in rows],
            "metadata": self._episodes.metadata,
            "environments": self._episodes.environments[:1000],
            "endings": list(ENDINGS),
        }

    def selection(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The command that makes a new trace of the episodes that a query asks for."""
        numbers = np.sort(self._episodes.matching(query, self._flagged))
        text = _ranges(numbers)
        paths = self._dataset.order.paths
        if len(text) > _MOST_COMMAND_BYTES or len(paths) != 1 or not len(numbers):
            command = None
        else:
            path = shown(paths[0])
            new = shlex.quote(_new_place(f"{path.rstrip('/')}-selected"))
            command = f"vecrollout filter {shlex.quote(path)} --episodes {text} --out {new}"
        return {"count": len(numbers), "command": command}

    def episode(self, number: int, query: Mapping[str, str]) -> dict[str, Any]:
        """An episode, as its page shows it."""
        found = episode.episode(self._dataset, number, _dims(query))
        return {**found, "flagged": number in self._flagged, "version": self._version, **self._place()}

    def step(self, number: int, step: int, query: Mapping[str, str]) -> dict[str, Any]:
        """A step of an episode."""
        return episode.step(self._dataset, number, step, _dims(query))

    def image(self, number: int, step: int, source: str) -> bytes:
        """An image of a step as PNG."""
        return images.image(self._dataset, number, step, source)

    def flag(self, number: int, wanted: bool) -> dict[str, Any]:
        """Flag an episode, or take the flag away."""
        self._dataset.order.at(number)
        self._flags.mark(self._episodes.key(number), wanted)
        (self._flagged.add if wanted else self._flagged.discard)(number)
        return {"number": number, "flagged": wanted, "count": len(self._flagged)}

    def _place(self) -> dict[str, Any]:
        return {"trajectories": len(self._dataset), "env_spec": facts(self._dataset)["env_spec"]}

    def _kept(self, name: str, make: Any) -> dict[str, Any]:
        if name not in self._made:
            self._made[name] = make()
        found: dict[str, Any] = self._made[name]
        return found

    def _files(self) -> dict[str, int] | None:
        """Sizes of the journals, which grow with the trace; None for an object store, where asking is not cheaper."""
        sizes: dict[str, int] = {}
        for path in self._dataset.order.paths:
            if not isinstance(path, os.PathLike):
                return None
            try:
                sizes |= {entry.path: entry.stat().st_size for entry in os.scandir(path) if _is_journal(entry.name)}
            except OSError:
                # The directory is gone; `refresh` says so.
                continue
        return sizes


def _is_journal(name: str) -> bool:
    return name.endswith(".journal")


def _ranges(numbers: Numbers) -> str:
    """Ascending numbers as text such as `1,5,9-12`, the end included."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run.tolist())) for run in runs)


def _new_place(path: str) -> str:
    """The path, with a number where an earlier selection has it. Object stores are not asked."""
    names = itertools.chain([path], (f"{path}-{number}" for number in itertools.count(2)))
    return next(each for each in names if not os.path.exists(each))


def _dims(query: Mapping[str, str]) -> bool:
    return bool(query.get("all"))
