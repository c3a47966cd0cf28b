"""Taking the leaves out of a nested observation, beside `optree`."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Table, at_most, number, ratio
from benchmarks.timing import Phases, fastest

_AIM = 2.0
_CALLS = 20_000


def structure_table(options: Options) -> Table:
    """Microseconds to flatten twelve nested leaves, of a structure that is known."""
    from vecrollout.data.structures import Structure

    tree = _nested()
    contenders = {"vecrollout": _timed(Structure.of(tree).flatten, tree, options)}
    if find_spec("optree"):
        from optree import tree_leaves

        contenders["optree"] = _timed(tree_leaves, tree, options)
    best = {who: phases["flatten"] * 1e6 for who, phases in fastest(contenders, options.runs).items()}
    ours, optree = best["vecrollout"], best.get("optree")
    row = "12 nested leaves", at_most(ratio(ours, optree), _AIM), number(ours), number(optree)
    note = "Flattening a nested observation: multiples of `optree.tree_leaves` (with the aim), then microseconds."
    return Table("Structures", ("", "x optree", "vecrollout us", "optree us"), [row], note)


def _nested() -> dict[str, Any]:
    def arm() -> dict[str, Any]:
        return {"joints": (np.zeros(7), np.zeros(7)), "gripper": {"force": np.zeros(2), "width": np.zeros(1)}}

    cameras = {"front": np.zeros((8, 8, 3)), "wrist": np.zeros((8, 8, 3))}
    return {"arms": (arm(), arm()), "cameras": cameras, "goal": np.zeros(3), "time": np.zeros(1)}


def _timed(flatten: Callable[[Any], Any], tree: Any, options: Options) -> Callable[[], Phases]:
    calls = options.scaled(_CALLS)

    def once() -> Phases:
        start = time.process_time()
        for _ in range(calls):
            flatten(tree)
        return {"flatten": (time.process_time() - start) / calls}

    return once
