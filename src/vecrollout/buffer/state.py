"""A buffer's whole state as plain arrays, and back: nothing in it needs pickle to be stored or runs when it is loaded.

The state is a flat dict of arrays. `meta` is a text: JSON with the counters, the episodes and the infos. `columns/i`
are the rows of all held runs, one run after another; `current/i` each environment's current observation; `payload/i`
arrays that the JSON refers to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.arena import Layout
from vecrollout.buffer.blocks import Block, ColumnSpec
from vecrollout.buffer.gather import joined
from vecrollout.buffer.packing import Contents, packed
from vecrollout.buffer.runs import OpenRun, Run
from vecrollout.data.structures import Spec as Structure
from vecrollout.data.trees import DictObs, TupleObs
from vecrollout.errors import StateError

_VERSION = 1


@dataclass(frozen=True)
class Snapshot:
    """Everything that a buffer holds and counts."""

    counters: dict[str, int]
    next_id: int
    is_ready: bool
    waiting: list[int]
    """Environments whose episode is over."""
    layout: Layout
    specs: list[ColumnSpec]
    finished: list[Run]
    running: list[Run]
    """One an environment, some without steps."""
    current: list[Array]
    """Leaves of the current observations, shape `(E, *item)` each."""


def dump(snapshot: Snapshot) -> dict[str, Array]:
    """A snapshot as a flat dict of arrays.

    Raises:
        StateError: If an info holds something that is neither plain data nor an array.
    """
    packer = _Packer()
    specs, layout = snapshot.specs, snapshot.layout
    runs = [run for run in [*snapshot.finished, *snapshot.running] if run.steps]
    meta = {
        "version": _VERSION,
        "num_envs": len(snapshot.running),
        "counters": snapshot.counters,
        "next_id": snapshot.next_id,
        "is_ready": snapshot.is_ready,
        "waiting": snapshot.waiting,
        "layout": layout,
        "specs": [[spec.name, spec.shape, spec.dtype.str] for spec in specs],
        "finished": [_pack_run(run, packer) for run in snapshot.finished],
        "running": [_pack_run(run, packer) for run in snapshot.running],
    }
    state: dict[str, Array] = {}
    for i, spec in enumerate(specs):
        extra = int(i < layout.obs_width)
        parts = [joined(run.pieces, i, extra) for run in runs] or [np.empty((0, *spec.shape), spec.dtype)]
        state[f"columns/{i}"] = packer.storable(np.concatenate(parts), spec.name)
    for i, leaf in enumerate(snapshot.current):
        state[f"current/{i}"] = packer.storable(leaf, specs[i].name)
    state["meta"] = np.array(json.dumps(meta))
    state.update({f"payload/{i}": array for i, array in enumerate(packer.arrays)})
    return state


def restore(state: Mapping[str, Any], num_envs: int, keeps_infos: bool) -> Snapshot:
    """The snapshot that `dump` made the state from.

    Args:
        state: The state.
        num_envs: Number of environments of the buffer that takes it.
        keeps_infos: Whether that buffer keeps infos.

    Raises:
        StateError: If the state is none, damaged, or of another version, or if the recorder it is of had other
            environments or infos.
    """
    try:
        return _restored(state, num_envs, keeps_infos)
    except StateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Whatever trips over it: the JSON in `meta`, or what it says, is not what `dump` wrote.
        raise StateError(
            f"state: expected what state_dict() returned, got a 'meta' that is damaged: {error!r}"
        ) from error


def _restored(state: Mapping[str, Any], num_envs: int, keeps_infos: bool) -> Snapshot:
    def entry(key: str) -> Array:
        if key not in state:
            raise StateError(f"state: expected what state_dict() returned, with an entry {key!r}, got none")
        return np.asarray(state[key])

    meta = json.loads(str(entry("meta")[()]))
    if meta.get("version") != _VERSION:
        raise StateError(f"state: expected version {_VERSION}, got {meta.get('version')}")
    obs, acts, obs_width, act_width, kept_infos = meta["layout"]
    for name, expected, got in (("num_envs", num_envs, meta["num_envs"]), ("keeps_infos", keeps_infos, kept_infos)):
        if got != expected:
            raise StateError(f"state: expected {name} {expected} as this recorder has, got {got}")
    specs = [ColumnSpec(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in meta["specs"]]

    def unpack(packed: Any) -> Any:
        return _unpack(packed, lambda i: entry(f"payload/{i}"))

    def stored(key: str, spec: ColumnSpec, rows: int) -> Array:
        array = entry(key)
        if spec.dtype.hasobject:
            array = unpack(json.loads(str(array[()])))
        if array.dtype != spec.dtype or array.shape != (rows, *spec.shape):
            raise StateError(
                f"state: expected {key!r} with dtype {spec.dtype} and shape {(rows, *spec.shape)}, got {array.dtype} "
                f"and {array.shape}"
            )
        return array

    packed_runs = [*meta["finished"], *meta["running"]]
    counters = {name: int(meta["counters"][name]) for name in ("stepped", "popped", "sunk", "dropped")}
    held = sum(run["steps"] for run in packed_runs)
    if counters["stepped"] != held + counters["popped"] + counters["sunk"] + counters["dropped"]:
        raise StateError(
            f"state: expected stepped to be held + popped + sunk + dropped, got {held} held and {counters}"
        )
    if [run["env"] for run in meta["running"]] != list(range(num_envs)) or not {*meta["waiting"]} <= {*range(num_envs)}:
        raise StateError(f"state: expected a running episode for each of {num_envs} environments, got others")
    ends = [np.cumsum([run["steps"] + extra if run["steps"] else 0 for run in packed_runs]) for extra in (0, 1)]
    parts = []
    for i, spec in enumerate(specs):
        stops = ends[i < obs_width]
        parts.append(np.split(stored(f"columns/{i}", spec, int(stops[-1])), stops[:-1]))
    runs = _unpack_runs(packed_runs, parts, specs, obs_width, unpack)
    return Snapshot(
        counters=counters,
        next_id=int(meta["next_id"]),
        is_ready=bool(meta["is_ready"]),
        waiting=meta["waiting"],
        layout=Layout(_structure(obs), _structure(acts), obs_width, act_width, kept_infos),
        specs=specs,
        finished=runs[: len(meta["finished"])],
        running=runs[len(meta["finished"]) :],
        current=[stored(f"current/{i}", spec, num_envs) for i, spec in enumerate(specs[:obs_width])],
    )


def _pack_run(run: Run, packer: _Packer) -> dict[str, Any]:
    fragment = run.fragment
    return {
        "pieces": packer.pack([info for piece in run.pieces for info in piece.infos()], "infos"),
        "steps": run.steps,
        "start_step": fragment.start_step,
        "id": fragment.id,
        "env": fragment.env,
        "seed": None if fragment.seed is None else int(fragment.seed),
        "reset_info": packer.pack(fragment.reset_info, "reset_info"),
        "ended_by": run.ended_by,
        "terminated": run.terminated,
        "truncated": run.truncated,
    }


def _unpack_runs(
    packed_runs: list[dict[str, Any]],
    parts: list[list[Array]],
    specs: list[ColumnSpec],
    obs_width: int,
    unpack: Callable[[Any], Any],
) -> list[Run]:
    def contents(k: int, run: dict[str, Any]) -> Contents:
        infos = unpack(run["pieces"]) or [{}] * run["steps"]
        return Contents(run["steps"], lambda i: parts[i][k], infos)

    placed = packed([contents(k, run) for k, run in enumerate(packed_runs)], specs, obs_width)
    runs: list[Run] = []
    for run, pieces in zip(packed_runs, placed, strict=True):
        identity = run["env"], run["id"], run["seed"], unpack(run["reset_info"]), run["start_step"]
        block = pieces[0].block if pieces else Block(1, 0)
        ending = run["ended_by"], run["terminated"], run["truncated"]
        runs.append(Run(OpenRun(*identity, pieces, piece_steps=run["steps"]), 0, block, *ending))
    return runs


def _structure(packed: Any) -> Structure:
    """A structure from JSON, which has lists for tuples."""
    if packed is None:
        return None
    kind, entries = packed
    return kind, tuple((key, _structure(child)) for key, child in entries)


class _Packer:
    """Turns plain data into JSON's types, and puts the arrays in it aside."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        # Numbers of arrays by identity; the arrays are kept so that no other gets the same identity.
        self._numbers: dict[int, tuple[int, object]] = {}

    def pack(self, value: Any, where: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list:
            return [self.pack(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": [self.pack(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        if isinstance(value, Mapping):
            items = [[self.pack(key, where), self.pack(item, f"{where}[{key!r}]")] for key, item in value.items()]
            return {"dict": items}
        if isinstance(value, DictObs | TupleObs):
            return {type(value).__name__: self.pack(value.unwrap(), where)}
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return {"objects": [list(value.shape), [self.pack(item, where) for item in value.ravel()]]}
        if isinstance(value, np.ndarray):
            return {"array": self._number(value)}
        if isinstance(value, np.generic):
            return {"scalar": self._number(value)}
        raise StateError(
            f"{where}: expected plain data (None, numbers, text, lists, dicts, arrays), got {type(value).__name__}, "
            "which cannot be stored without pickle; leave it out by record_infos="
        )

    def storable(self, array: Array, where: str) -> Array:
        """The array, or its objects as JSON text where no other way stores them without pickle."""
        return np.array(json.dumps(self.pack(array, where))) if array.dtype.hasobject else array

    def _number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.arrays), value
            self.arrays.append(np.array(value))
        return self._numbers[id(value)][0]


def _unpack(packed: Any, array: Callable[[int], Array]) -> Any:
    if isinstance(packed, list):
        return [_unpack(item, array) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, value),) = packed.items()
    match kind:
        case "tuple":
            return tuple(_unpack(item, array) for item in value)
        case "dict":
            return {_unpack(key, array): _unpack(item, array) for key, item in value}
        case "DictObs":
            return DictObs(_unpack(value, array))
        case "TupleObs":
            return TupleObs(_unpack(value, array))
        case "objects":
            shape, items = value
            objects = np.empty(len(items), dtype=object)
            for i, item in enumerate(items):  # one by one: NumPy would look into lists
                objects[i] = _unpack(item, array)
            return objects.reshape(shape)
        case "array":
            return array(value)
        case "scalar":
            return array(value)[()]
    raise StateError(f"state: expected a known kind of entry, got {kind!r}")
