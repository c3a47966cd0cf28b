"""Writing Minari data sets, beside Minari's own HDF5 writer."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.episodes import ATARI, LONG, SHORT, Episodes, episodes_of, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_least, number, ratio
from benchmarks.timing import Phases, Stopwatch, fastest

_AIM = 10.0
"""Times as fast an episode as Minari's writer."""

_MOST_EPISODES = 1_000
_OURS, _EACH, _ALL, _BARE, _LEAST = "vecrollout", "Minari, an episode a call", "Minari, one call", "h5py", "HDF5"
_COLUMNS = (
    *(
        "",
        "Minari / vecrollout",
        "in one call",
        "vecrollout us",
        "Minari us",
        "in one call us",
        "bare h5py us",
        "HDF5 us",
    ),
)


def interop_tables(options: Options) -> list[Table]:
    """Processor time of an episode, for each kind of episodes."""
    rows = [_row(name, options) for name in (SHORT, LONG, ATARI)]
    note = (
        "Processor time of an episode that lies in memory, in microseconds. Minari's collector hands its writer an "
        "episode at a time, which is the comparison with the aim; the next column has all episodes in one call of "
        "`update_episodes`. JPEG is off. Bare h5py makes the same groups, arrays and attributes by h5py's usual "
        "interface, and HDF5 by its low-level one, with everything prepared that can be: the limit. For large images "
        "the disk is the limit."
    )
    return [Table("Writing Minari data sets", _COLUMNS, rows, note)]


def _row(name: str, options: Options) -> tuple[str, ...]:
    episodes = episodes_of(name, options.is_quick)
    count = min(len(episodes.acts), options.scaled(_MOST_EPISODES, 2))
    episodes = Episodes(episodes.obs[:count], episodes.acts[:count], episodes.rews[:count])
    spaces = _spaces(episodes)
    with tempfile.TemporaryDirectory() as directory:
        run: dict[str, Callable[[], Phases]] = {
            _OURS: partial(_timed, _ours, trajectories_of(episodes), spaces, Path(directory)),
            _BARE: partial(_timed, _bare, episodes, spaces, Path(directory)),
            _LEAST: partial(_timed, _least, episodes, spaces, Path(directory)),
        }
        if find_spec("minari"):
            buffers = _buffers(episodes)
            for form, is_each in ((_EACH, True), (_ALL, False)):
                run[form] = partial(_timed, _minari, buffers, spaces, Path(directory), is_each)
        best = {each: phases["write"] / count * 1e6 for each, phases in fastest(run, options.runs).items()}
    ours, each, at_once, least = best[_OURS], best.get(_EACH), best.get(_ALL), min(best[_LEAST], best[_BARE])
    return (
        name,
        at_least(ratio(each, ours), _AIM, ratio(each, least)),
        at_least(ratio(at_once, ours), _AIM, ratio(at_once, least)),
        *map(number, (ours, each, at_once, best[_BARE], best[_LEAST])),
    )


def _timed(write: Callable[..., object], *arguments: Any) -> Phases:
    watch = Stopwatch(time.process_time)
    with watch.phase("write"):
        write(*arguments)
    return watch.phases


def _ours(trajectories: list[Any], spaces: Any, directory: Path) -> None:
    from vecrollout.interop.minari import to_minari

    with tempfile.TemporaryDirectory(dir=directory) as target:
        to_minari(trajectories, Path(target) / "ours-v0", spaces=spaces)


def _minari(buffers: list[Any], spaces: Any, directory: Path, is_each: bool) -> None:
    from minari.dataset.minari_storage import MinariStorage

    with tempfile.TemporaryDirectory(dir=directory) as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = MinariStorage.new(Path(target), *spaces, data_format="hdf5", jpeg_encoding=False)
        for some in [[each] for each in buffers] if is_each else [buffers]:
            storage.update_episodes(some)


def _buffers(episodes: Episodes) -> list[Any]:
    from minari.data_collector import EpisodeBuffer

    return [
        EpisodeBuffer(
            observations=list(obs),
            actions=list(acts),
            rewards=list(rews),
            terminations=list(np.arange(len(acts)) == len(acts) - 1),
            truncations=list(np.zeros(len(acts), bool)),
            infos={},
        )
        for obs, acts, rews in zip(episodes.obs, episodes.acts, episodes.rews, strict=True)
    ]


def _bare(episodes: Episodes, _: Any, directory: Path) -> None:
    import h5py

    with tempfile.TemporaryDirectory(dir=directory) as target, h5py.File(Path(target) / "bare.hdf5", "w") as file:
        for i, (obs, acts, rews) in enumerate(zip(episodes.obs, episodes.acts, episodes.rews, strict=True)):
            group = file.create_group(f"episode_{i}")
            flags = np.zeros(len(acts), bool)
            columns = {"observations": obs, "actions": acts, "rewards": rews, "terminations": flags}
            for name, column in {**columns, "truncations": flags}.items():
                group.create_dataset(name, data=column)
            group.create_group("infos")
            group.attrs["id"], group.attrs["total_steps"] = i, len(acts)


def _least(episodes: Episodes, _: Any, directory: Path) -> None:
    """The objects of Minari's format, by as few and as small calls of HDF5 as there can be."""
    import h5py

    def prepared(array: Any) -> tuple[Any, ...]:
        return h5py.h5t.py_create(array.dtype, logical=True), h5py.h5s.create_simple(array.shape)

    def write(group: Any, name: bytes, array: Any, kind: Any, space: Any) -> Any:
        data = h5py.h5d.create(group, name, kind, space, compact if array.nbytes <= 8 << 10 else None)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, array, kind)
        return data

    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    compact.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    compact.set_obj_track_times(False)
    first = {b"observations": episodes.obs[0], b"actions": episodes.acts[0], b"rewards": episodes.rews[0]}
    kinds = {name: prepared(array) for name, array in first.items()}
    flags = np.zeros(len(episodes.acts[0]), bool)
    integer, scalar = h5py.h5t.py_create(np.dtype(np.int64)), h5py.h5s.create(h5py.h5s.SCALAR)
    with (
        tempfile.TemporaryDirectory(dir=directory) as target,
        h5py.File(Path(target) / "least.hdf5", "w", libver=("v110", "v110")) as file,
    ):
        shared = write(file.id, b"flags", flags, *prepared(flags))
        infos = h5py.h5g.create(file.id, b"no infos")
        for i, columns in enumerate(zip(episodes.obs, episodes.acts, episodes.rews, strict=True)):
            group = h5py.h5g.create(file.id, b"episode_%d" % i)
            for (name, (kind, space)), column in zip(kinds.items(), columns, strict=True):
                write(group, name, column, kind, space)
            for name, linked in ((b"terminations", shared), (b"truncations", shared), (b"infos", infos)):
                h5py.h5o.link(linked, group, name)
            for name, value in ((b"id", i), (b"total_steps", len(columns[1]))):
                h5py.h5a.create(group, name, integer, scalar).write(np.array(value), integer)


def _spaces(episodes: Episodes) -> tuple[gym.Space[Any], gym.Space[Any]]:
    row = episodes.obs[0]
    low, high = (0, 255) if row.dtype == np.uint8 else (-np.inf, np.inf)
    return gym.spaces.Box(low, high, row.shape[1:], row.dtype.type), gym.spaces.Discrete(18)
