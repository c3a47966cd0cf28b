"""A buffer's whole state as plain arrays, and back: nothing in it needs pickle to be stored or runs when it is loaded.

The state is a flat dict of arrays. `meta` is a text: JSON with the counters, the episodes and the infos. `obs/i`,
`acts/i` and `rews` are the columns of all fragments, one behind another; `current/i` is each environment's current
observation. Arrays of objects are texts too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.books import Bookkeeper
from vecrollout.buffer.episodes import Run
from vecrollout.buffer.gather import LogColumns
from vecrollout.buffer.layout import Layout
from vecrollout.buffer.log import StepLog
from vecrollout.buffer.stored import stored_runs
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.dtypes import dtype_from_json, dtype_to_json
from vecrollout.data.kinds import Item, Part
from vecrollout.data.plain import UnstorableError, dumps, pack, unpack
from vecrollout.data.structures import Spec, Structure
from vecrollout.data.trajectory import Episode
from vecrollout.errors import StateError

VERSION = 2
COUNTERS = ("stepped", "popped", "delivered", "dropped")


@dataclass(frozen=True)
class Snapshot:
    """What a state says that a buffer holds and counts."""

    recording: str
    counters: dict[str, int]
    next_id: int
    is_ready: bool
    waiting: list[int]
    finished: int
    """How many of the fragments are finished; the others run."""
    running: list[Episode | None]
    """By environment, also of those without steps; None: its episode is over."""
    discarded: list[int]
    """Environments whose running episode is not recorded any more."""
    fragments: TrajectoryBatch | None
    """Finished ones first; None: none."""
    obs: Part | None
    """None: nothing was recorded yet."""
    current: Sequence[Array]
    """Leaves of the current observations, shape `(E, *item)` each."""


def fill(log: StepLog, keeper: Bookkeeper, snapshot: Snapshot) -> None:
    """Put a snapshot into a log and books in which nothing is yet."""
    runs: list[Run] = []
    counters = snapshot.counters
    if snapshot.obs is not None:
        layout = Layout(log.num_envs, snapshot.obs)
        batch = snapshot.fragments
        if batch is not None:
            runs = stored_runs(batch)
            kind = batch.kind
            layout = replace(layout, acts=kind.acts, rews=kind.rews, rew_shape=kind.rew_shape)
        log.begin(layout, snapshot.current, frozenset(snapshot.waiting), total=counters["stepped"])
    counted = [counters[name] for name in COUNTERS[1:]]
    keeper.restore(runs, snapshot.finished, snapshot.running, snapshot.discarded, snapshot.next_id, *counted)


def dump(log: StepLog, keeper: Bookkeeper, is_ready: bool) -> dict[str, Array]:
    """Everything that a buffer holds and counts, as a flat dict of arrays."""
    runs = [*keeper.settle().runs(), *keeper.fragments()]
    books = keeper.books
    batch = TrajectoryBatch(LogColumns(runs, log.layout, log.keeps_infos)) if runs else None
    running = [None if span is None else span.episode() for span in books.running]
    meta: dict[str, Any] = {
        "version": VERSION,
        "num_envs": log.num_envs,
        "recording": keeper.recording,
        "counters": {name: getattr(keeper if name == "stepped" else books, name) for name in COUNTERS},
        "next_id": books.next_id,
        "is_ready": is_ready,
        "waiting": sorted(log.waiting),
        "keeps_infos": log.keeps_infos,
        "finished": books.count,
        "running": [None if episode is None else _packed_episode(episode) for episode in running],
        "discarded": sorted(books.discarded),
        "obs": _packed_part(log.layout.obs) if log.chunks else None,
        "fragments": None,
    }
    state = {f"current/{i}": _storable(leaf, "obs") for i, leaf in enumerate(log.current() if log.chunks else ())}
    if batch is not None:
        kind = batch.kind
        meta["fragments"] = {
            "acts": _packed_part(kind.acts),
            "lengths": batch.lengths.tolist(),
            "terminated": batch.terminated.tolist(),
            "truncated": batch.truncated.tolist(),
            "episodes": [_packed_episode(episode) for episode in batch.episodes],
            "infos": None if batch.infos is None else [_packed(info, "infos") for info in batch.infos],
        }
        for name, part, tree in (("obs", kind.obs, batch.obs), ("acts", kind.acts, batch.acts)):
            for i, leaf in enumerate(part.structure.flatten(tree)):
                state[f"{name}/{i}"] = _storable(leaf, name)
        state["rews"] = np.array(batch.rews)
    state["meta"] = np.array(json.dumps(meta))
    return state


def restore(state: Mapping[str, Any], num_envs: int, keeps_infos: bool) -> Snapshot:
    """The snapshot of what `dump` made the state from."""
    try:
        return _restored(state, num_envs, keeps_infos)
    except StateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        # The JSON in `meta`, or what it says, is not what `dump` wrote.
        raise StateError(
            f"state: expected what state_dict() returned, got a 'meta' that is damaged: {error!r}"
        ) from error


def _restored(state: Mapping[str, Any], num_envs: int, keeps_infos: bool) -> Snapshot:
    meta = json.loads(str(_entry(state, "meta")[()]))
    if meta.get("version") != VERSION:
        raise StateError(f"state: expected version {VERSION}, got {meta.get('version')}")
    for name, expected in (("num_envs", num_envs), ("keeps_infos", keeps_infos)):
        if meta[name] != expected:
            raise StateError(f"state: expected {name} {expected} as this recorder has, got {meta[name]}")
    counters = {name: int(meta["counters"][name]) for name in COUNTERS}
    running = [None if episode is None else _episode(episode) for episode in meta["running"]]
    waiting, discarded = meta["waiting"], [int(env) for env in meta.get("discarded", ())]
    finished, packed = int(meta["finished"]), meta["fragments"]
    obs = None if meta["obs"] is None else _part(meta["obs"])
    batch = None if packed is None or obs is None else _batch(state, packed, obs)
    named = [None if episode is None else (episode.env_index, episode.id) for episode in running]
    known = [name is None or name[0] == env for env, name in enumerate(named)]
    fragments = [(episode.env_index, episode.id) for episode in (batch.episodes[finished:] if batch else ())]
    fits = len(known) == num_envs and all(known) and len({*fragments}) == len(fragments) and {*fragments} <= {*named}
    if not fits or not {*discarded} <= {*waiting} <= {*range(num_envs)}:
        raise StateError(f"state: expected a running episode for each of {num_envs} environments, got others")
    held = 0 if batch is None else batch.total_steps
    if counters["stepped"] != held + counters["popped"] + counters["delivered"] + counters["dropped"]:
        raise StateError(
            f"state: expected stepped to be held + popped + delivered + dropped, got {held} held and {counters}"
        )
    return Snapshot(
        recording=str(meta["recording"]),
        counters=counters,
        next_id=int(meta["next_id"]),
        is_ready=bool(meta["is_ready"]),
        waiting=waiting,
        finished=finished,
        running=running,
        discarded=discarded,
        fragments=batch,
        obs=obs,
        current=[_stored(state, f"current/{i}", item, num_envs) for i, item in enumerate(obs.items if obs else ())],
    )


def _batch(state: Mapping[str, Any], packed: Any, obs: Part) -> TrajectoryBatch:
    acts = _part(packed["acts"])
    lengths = [int(length) for length in packed["lengths"]]
    steps, infos = sum(lengths), packed["infos"]
    columns: list[Any] = [
        part.structure.unflatten([_stored(state, f"{name}/{i}", item, rows) for i, item in enumerate(part.items)])
        for name, part, rows in (("obs", obs, steps + len(lengths)), ("acts", acts, steps))
    ]
    return TrajectoryBatch.from_arrays(
        columns[0],
        columns[1],
        np.array(_entry(state, "rews")),
        None if infos is None else [unpack(info) for info in infos],
        lengths=np.array(lengths, np.int64),
        terminated=np.array(packed["terminated"], bool),
        truncated=np.array(packed["truncated"], bool),
        episodes=[_episode(episode) for episode in packed["episodes"]],
    )


def _entry(state: Mapping[str, Any], key: str) -> Array:
    if key not in state:
        raise StateError(f"state: expected what state_dict() returned, with an entry {key!r}, got none")
    return np.asarray(state[key])


def _stored(state: Mapping[str, Any], key: str, item: Item, rows: int) -> Array:
    array = _entry(state, key)
    if item.dtype.hasobject:
        array = unpack(json.loads(str(array[()])))
    if array.dtype != item.dtype or array.shape != (rows, *item.shape):
        raise StateError(
            f"state: expected {key!r} with dtype {item.dtype} and shape {(rows, *item.shape)}, got {array.dtype} and "
            f"{array.shape}"
        )
    return np.array(array)


def _storable(array: Array, where: str) -> Array:
    """The array, or its objects as JSON text, as no other way stores them without pickle."""
    return np.array(json.dumps(_packed(array, where))) if array.dtype.hasobject else np.array(array)


def _packed(value: Any, where: str) -> Any:
    try:
        return pack(value)
    except UnstorableError as error:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                _packed(entry, f"{where}[{key!r}]")
        raise StateError(
            f"{where}: expected plain data (None, numbers, text, lists, dicts, arrays), which can be stored without "
            f"pickle, got other data: {error}; leave it out with record_infos="
        ) from error


def _packed_episode(episode: Episode) -> dict[str, Any]:
    seed, reset_info = episode.seed, episode.reset_info
    return {
        **{name: getattr(episode, name) for name in ("id", "env_index", "start_step", "ended_by", "recording")},
        "seed": None if seed is None else int(seed),
        "reset_info": None if reset_info is None else _packed(dict(reset_info), "reset_info"),
    }


def _episode(packed: Mapping[str, Any]) -> Episode:
    return Episode(**{**packed, "reset_info": unpack(packed["reset_info"])})


def _packed_part(part: Part) -> Any:
    items = [[dtype_to_json(item.dtype), list(item.shape)] for item in part.items]
    return {"structure": dumps(pack(part.structure.spec)), "items": items}


def _part(packed: Any) -> Part:
    spec: Spec = unpack(json.loads(packed["structure"]))
    items = tuple(Item(dtype_from_json(dtype), tuple(shape)) for dtype, shape in packed["items"])
    return Part(Structure(spec), items)
