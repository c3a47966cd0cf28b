"""A buffer's whole state as plain arrays, and back: nothing in it needs pickle to be stored or runs when it is loaded.

The state is a flat dict of arrays. `meta` is a text: JSON with the counters, the episodes and the infos. `columns/i`
are the rows of all held runs, one run after another; `current/i` each environment's current observation; `payload/i`
arrays that the JSON refers to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.buffer.arena import Layout
from vecrollout.buffer.blocks import Block, ColumnSpec, Piece
from vecrollout.buffer.gather import joined
from vecrollout.buffer.runs import OpenRun, Run
from vecrollout.errors import StateError
from vecrollout.structures import Structure
from vecrollout.trees import DictObs, TupleObs

if TYPE_CHECKING:
    from vecrollout.buffer.rollout_buffer import RolloutBuffer

_VERSION = 1
_COUNTERS = ("stepped", "popped", "sunk", "dropped")


def dump(buffer: RolloutBuffer) -> dict[str, Array]:
    """Everything that the buffer holds and counts; the buffer stays as it is.

    Raises:
        StateError: If an info holds something that is neither plain data nor an array.
    """
    packer = _Packer()
    arena = buffer._arena
    rows = arena.row.tolist()
    running = [run.close(row, arena.block, None) for run, row in zip(buffer._open, rows, strict=True)]
    runs = [run for run in [*buffer._finished, *running] if run.steps]
    layout = arena.layout
    meta = {
        "version": _VERSION,
        "num_envs": buffer.num_envs,
        "counters": {name: getattr(buffer, name) for name in _COUNTERS},
        "next_id": buffer._next_id,
        "ready": buffer._ready,
        "keeps_infos": layout.keeps_infos,
        "obs": layout.obs,
        "acts": layout.acts,
        "obs_width": layout.obs_width,
        "act_width": layout.act_width,
        "specs": [[spec.name, spec.shape, spec.dtype.str] for spec in arena.specs],
        "finished": [_pack_run(run, packer) for run in buffer._finished],
        "running": [_pack_run(run, packer) for run in running],
        "waiting": sorted(buffer.waiting),
    }
    state: dict[str, Array] = {}
    for i, spec in enumerate(arena.specs):
        extra = int(i < layout.obs_width)
        parts = [joined(run.pieces, i, extra) for run in runs] or [np.empty((0, *spec.shape), spec.dtype)]
        state[f"columns/{i}"] = packer.storable(np.concatenate(parts), spec.name)
    for i, column in enumerate(arena.obs_columns):
        state[f"current/{i}"] = packer.storable(column.rows[arena.row], column.spec.name)
    state["meta"] = np.array(json.dumps(meta))
    state.update({f"payload/{i}": array for i, array in enumerate(packer.arrays)})
    return state


def restore(buffer: RolloutBuffer, state: Mapping[str, Any]) -> None:
    """Put a state from `dump` in the place of what the buffer holds and counts.

    Raises:
        StateError: If the state is none, of another version, or of a recorder with other environments or infos.
    """
    if "meta" not in state:
        raise StateError("state: expected what state_dict() returned, with an entry 'meta', got none")
    meta = json.loads(str(np.asarray(state["meta"])[()]))
    expected = {"version": _VERSION, "num_envs": buffer.num_envs, "keeps_infos": buffer._arena.layout.keeps_infos}
    for name, value in expected.items():
        if meta.get(name) != value:
            raise StateError(f"state: expected {name} {value} as this recorder has, got {meta.get(name)}")

    def unpack(packed: Any) -> Any:
        return _unpack(packed, lambda i: np.asarray(state[f"payload/{i}"]))

    specs = [ColumnSpec(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in meta["specs"]]
    packed_runs = [*meta["finished"], *(run for run in meta["running"] if run["steps"])]
    # All runs come to lie in one block of one row of environments, each with its last observation behind it.
    block = Block(1, sum(run["steps"] + 1 for run in packed_runs), specs)
    for i, column in enumerate(block.columns):
        stored = np.asarray(state[f"columns/{i}"])
        rows = unpack(json.loads(str(stored[()]))) if column.dtype.hasobject else stored
        extra = int(i < meta["obs_width"])
        row = at = 0
        for run in packed_runs:
            count = run["steps"] + extra
            column.rows[row : row + count] = rows[at : at + count]
            row += run["steps"] + 1
            at += count
    runs: list[Run] = []
    row = 0
    for packed in meta["finished"] + meta["running"]:
        pieces = [Piece(block, row, packed["steps"])] if packed["steps"] else []
        infos = unpack(packed["pieces"])
        runs.append(Run(**{**packed, "pieces": pieces, "reset_info": unpack(packed["reset_info"])}))
        if pieces:
            block.infos.append(np.arange(row, row + packed["steps"]), tuple(infos or [{}] * packed["steps"]))
            row += packed["steps"] + 1
    current = [np.asarray(state[f"current/{i}"]) for i in range(meta["obs_width"])]
    current = [
        unpack(json.loads(str(leaf[()]))) if spec.dtype.hasobject else leaf
        for spec, leaf in zip(specs, current, strict=False)
    ]

    for name in _COUNTERS:
        setattr(buffer, name, meta["counters"][name])
    arena = buffer._arena
    if specs:
        layout = Layout(
            obs=_structure(meta["obs"]),
            acts=_structure(meta["acts"]),
            obs_width=meta["obs_width"],
            act_width=meta["act_width"],
            keeps_infos=meta["keeps_infos"],
        )
        arena.adopt(layout, specs)
        for column, leaf in zip(arena.obs_columns, current, strict=True):
            column.write(arena.row, leaf)
    finished = len(meta["finished"])
    open_runs = [_reopened(run) for run in runs[finished:]]
    buffer._adopt(runs[:finished], open_runs, set(meta["waiting"]), meta["next_id"], meta["ready"])


def _pack_run(run: Run, packer: _Packer) -> dict[str, Any]:
    return {
        **run._asdict(),
        "seed": None if run.seed is None else int(run.seed),
        "reset_info": packer.pack(run.reset_info, "reset_info"),
        "pieces": packer.pack([info for piece in run.pieces for info in piece.infos()], "infos"),
    }


def _reopened(run: Run) -> OpenRun:
    """The running fragment again, as yet without a piece in the current block."""
    reopened = OpenRun(run.env)
    reopened.begin_episode(0, run.id, run.seed, run.reset_info)
    reopened.start_step, reopened.pieces, reopened.piece_steps = run.start_step, run.pieces, run.steps
    return reopened


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
            return {"objects": self.pack(value.tolist(), where)}
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
            return np.array(_unpack(value, array), dtype=object)
        case "array":
            return array(value)
        case "scalar":
            return array(value)[()]
    raise StateError(f"state: expected a known kind of entry, got {kind!r}")
