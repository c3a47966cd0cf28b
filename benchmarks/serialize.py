"""Saving and loading trajectories, beside imitation's `serialize`."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.contenders import IMITATION, OURS
from benchmarks.episodes import Episodes, atari
from benchmarks.report import Table, at_least, number
from benchmarks.timing import Phases, Stopwatch, fastest

_AIM = 100.0
_FRAMES = 1_000
"""imitation takes as much time for each, and minutes for 20,000."""


def serialize_table(runs: int) -> Table:
    """Measure a list of trajectories of Atari frames, with an info a step.

    Args:
        runs: Rounds that count.

    Returns:
        Time of saving and of loading all of it, a frame.
    """
    episodes = atari(2, _FRAMES // 2)
    contenders: dict[str, Callable[[], Phases]] = {OURS: partial(_ours, episodes)}
    if find_spec("imitation") and find_spec("jsonpickle"):
        contenders[IMITATION] = partial(_imitation, episodes)
    best = fastest(contenders, runs)
    rows = []
    for phase in ("save", "load"):
        ours, theirs = best[OURS][phase], best.get(IMITATION, {}).get(phase)
        ratio = None if theirs is None else theirs / ours
        imitation = None if theirs is None else theirs / _FRAMES * 1e6
        rows.append((phase, at_least(ratio, _AIM), number(ours / _FRAMES * 1e6), number(imitation)))
    columns = ("", "imitation / vecrollout", "vecrollout us", "imitation us")
    note = (
        f"`TraceWriter` and `open_traces` beside `imitation.data.serialize`: {_FRAMES} stacks of Atari frames, saved, "
        "and every array loaded; microseconds a stack (the aim in brackets)."
    )
    return Table("Saving and loading", columns, rows, note)


def _ours(episodes: Episodes) -> Phases:
    from vecrollout import TraceWriter, TrajectoryWithRew, open_traces

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory:
        trajectories = _trajectories(TrajectoryWithRew, episodes)
        with watch.phase("save"), TraceWriter(directory) as writer:
            for each in trajectories:
                writer.append(each)
        with watch.phase("load"):
            loaded = [(each.obs, each.acts, each.rews, each.infos) for each in open_traces(directory)]
        del loaded
    return watch.phases


def _imitation(episodes: Episodes) -> Phases:
    from imitation.data import serialize
    from imitation.data.types import TrajectoryWithRew

    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        trajectories = _trajectories(TrajectoryWithRew, episodes)
        with watch.phase("save"):
            serialize.save(f"{directory}/trajectories", trajectories)
        with watch.phase("load"):
            loaded = [
                (each.obs, each.acts, each.rews, each.infos) for each in serialize.load(f"{directory}/trajectories")
            ]
        del loaded
    return watch.phases


def _trajectories(kind: Any, episodes: Episodes) -> list[Any]:
    return [
        kind(
            obs=obs,
            acts=acts,
            infos=np.array([{"lives": i % 4} for i in range(len(acts))]),
            terminal=True,
            rews=rews.astype(np.float64),
        )
        for obs, acts, rews in zip(episodes.obs, episodes.acts, episodes.rews, strict=True)
    ]
