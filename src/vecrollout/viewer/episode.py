"""An episode and its steps, as the viewer's page shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecrollout.report.statistics import finite
from vecrollout.report.thinning import thinned
from vecrollout.storage.dataset import TraceDataset
from vecrollout.viewer import images
from vecrollout.viewer.curves import FEW, MANY, curves
from vecrollout.viewer.showing import showable

_POINTS = 2000


def episode(dataset: TraceDataset, number: int, every: bool) -> dict[str, Any]:
    """Identity, metadata and curves. Curves of long episodes are thinned, without losing a peak."""
    number = dataset.order.at(number)
    length = dataset.lengths.item(number)
    identity = dataset.identity(number)
    table = dataset.table
    found = curves(dataset, number, 0, length, MANY if every else FEW)
    return {
        "number": number,
        "length": length,
        "return": showable(table.column("return_")[number].as_py()),
        "terminated": table.column("terminated")[number].as_py(),
        "truncated": table.column("truncated")[number].as_py(),
        "ended_by": identity.ended_by,
        "env": identity.env_index,
        "seed": showable(identity.seed),
        "start_step": identity.start_step,
        "recording": identity.recording,
        "id": identity.id,
        "reset_info": showable(identity.reset_info),
        "metadata": showable({**dataset.about(number)["metadata"], **dataset.metadata_of(number)}),
        "images": images.sources(dataset, number),
        "groups": [
            {
                "title": group.title,
                "left_out": group.left_out,
                "curves": [_curve(name, values) for name, values in group.by_name.items()],
            }
            for group in found
        ],
    }


def step(dataset: TraceDataset, number: int, step: int, every: bool) -> dict[str, Any]:
    """The numbers of a step by the names of their curves, and its info. The last step has an observation only."""
    number = dataset.order.at(number)
    length = dataset.lengths.item(number)
    if not 0 <= step <= length:
        raise IndexError(f"step: expected one in [0, {length}], got {step}")
    begin = min(step, length - 1)
    values = {}
    for group in curves(dataset, number, begin, begin + 1, MANY if every else FEW):
        row = step - begin
        for name, numbers in group.by_name.items():
            if row < len(numbers):
                values[name] = finite(numbers[row])
    infos = dataset.columns(number, ("infos",), begin, begin + 1)["infos"] if step < length else None
    return {
        "number": number,
        "step": step,
        "values": values,
        "info": None if infos is None else showable(infos[0]),
    }


def _curve(name: str, values: Any) -> dict[str, Any]:
    places = thinned(values, _POINTS)
    return {
        "name": name,
        "x": places.tolist() if len(places) < len(values) else len(values),
        "y": [value if np.isfinite(value) else None for value in values[places].tolist()],
    }
