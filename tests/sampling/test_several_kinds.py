"""A directory of trajectories of several structures: what is drawn depends on the chosen trajectories only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from vecrollout import TraceDataset, TraceWriter, TrajectoryBatch, open_traces
from vecrollout.errors import ArgumentTypeError, ShapeError, StructureError
from vecrollout.testing.comparison import assert_same

LENGTHS = [3, 1, 7, 2]
STEPS, ROWS = sum(LENGTHS), sum(LENGTHS) + len(LENGTHS)
IMAGES = np.arange(ROWS * 2048, dtype=np.uint8).reshape(ROWS, 32, 64)
COLUMNS: dict[str, dict[str, Any]] = {
    "vector": {},
    "actions": {"acts": np.arange(STEPS * 2.0).reshape(STEPS, 2)},
    "images": {"obs": {"camera": IMAGES, "arm": np.arange(ROWS)}},
    "text": {"obs": np.array([f"row {i}" for i in range(ROWS)])},
    "no rewards": {"rews": None},
    "two rewards": {"rews": np.arange(STEPS * 2.0).reshape(STEPS, 2)},
    # Of the same kind as the first.
    "vector, precise": {"rews": np.arange(STEPS) / 3},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kinds")
    for name, columns in COLUMNS.items():
        given = {
            "obs": np.arange(ROWS * 2, dtype=np.float32).reshape(-1, 2),
            "acts": np.arange(STEPS),
            "rews": np.arange(STEPS, dtype=np.float32),
            "infos": np.array([{"step": i} for i in range(STEPS)]),
            "terminated": np.ones(len(LENGTHS), bool),
        }
        with TraceWriter(path, metadata={"kind": name}, mix_spaces=True) as writer:
            writer.extend(TrajectoryBatch.from_arrays(**{**given, **columns}, lengths=LENGTHS))
    return path


@pytest.fixture(params=[0, 1 << 30], ids=["from the files", "in memory"])
def traces(directory: Path, request: pytest.FixtureRequest) -> TraceDataset:
    return open_traces(directory, memory_bytes=request.param)


def of_kind(traces: TraceDataset, name: str) -> TraceDataset:
    return traces.filter(pc.field("kind") == name)


def assert_drawn_alike(view: TraceDataset) -> None:
    batch = TrajectoryBatch.from_trajectories(list(view))
    assert view.sample_transitions(9, np.random.default_rng(0)) == batch.sample_transitions(9, np.random.default_rng(0))
    assert view.steps(infos=True)[:] == batch.steps(infos=True)[:]
    assert_same(vars(view.windows(2)[:]), vars(batch.windows(2)[:]))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_view_of_one_kind(traces: TraceDataset, name: str) -> None:
    view = of_kind(traces, name)
    assert len(view) == len(LENGTHS)
    assert_drawn_alike(view)
    assert_drawn_alike(view[[2, 0, 2]])


def test_views_of_several_kinds_at_once(traces: TraceDataset) -> None:
    views = [of_kind(traces, name) for name in COLUMNS]
    drawn = [[view.steps()[:] for view in views] for _ in range(2)]
    for view, first, second in zip(views, *drawn, strict=True):
        assert first == second == TrajectoryBatch.from_trajectories(list(view)).steps()[:]


def test_views_of_views(traces: TraceDataset) -> None:
    for name in ("actions", "images"):
        view = of_kind(traces, name)
        assert_drawn_alike(view.trim(0, 2))
        assert_drawn_alike(view.concat(view[::-1]))
        assert_drawn_alike(
            traces.relabel(rews=lambda each: -each.acts.reshape(len(each), -1)[:, 0] * 1.0)[view_of(view)]
        )
        assert_drawn_alike(traces.stitched()[view_of(view)])
        assert_drawn_alike(pickle.loads(pickle.dumps(view)))


def view_of(view: TraceDataset) -> list[int]:
    return view.order.number.tolist()


def test_kinds_that_go_together(traces: TraceDataset) -> None:
    view = of_kind(traces, "vector").concat(of_kind(traces, "vector, precise"))
    assert view.steps()[:].rews.dtype == np.float64
    assert view.steps()[:].rews.tolist() == [*range(STEPS), *(np.arange(STEPS) / 3)]


def test_several_directories(directory: Path, tmp_path: Path, traces: TraceDataset) -> None:
    of_kind(traces, "images").write(tmp_path / "images")
    both = open_traces([directory, tmp_path / "images"])
    view = of_kind(both, "images")
    assert len(view) == 2 * len(LENGTHS)
    assert_drawn_alike(view)


def test_no_trajectories(traces: TraceDataset) -> None:
    none = traces[[]]
    assert len(none.steps()) == len(none.windows(2)) == len(none.returns_to_go()) == 0
    with pytest.raises(ShapeError, match="at least one item"):
        none.sample_transitions(1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ("actions", StructureError, r"acts int64 \(\).*acts float64 \(2,\).*choose trajectories of one kind"),
        ("images", StructureError, r"obs\['camera'\] uint8 \(32, 64\)"),
        ("no rewards", ArgumentTypeError, "rewards in all trajectories or in none"),
        ("two rewards", ShapeError, r"rewards of one shape.*rews float64 \(2,\)"),
    ],
)
def test_chosen_trajectories_of_several_kinds(
    traces: TraceDataset, tmp_path: Path, other: str, error: type[Exception], message: str
) -> None:
    view = traces.filter(pc.field("kind").isin(["vector", other]))
    for draw in (view.steps, view.normalization, lambda: view.sample_transitions(3, np.random.default_rng(0))):
        with pytest.raises(error, match=message):
            draw()
    two = [of_kind(traces, name).write(tmp_path / name) for name in ("vector", other)]
    with pytest.raises(error, match=message):
        two[0].concat(two[1]).steps()
