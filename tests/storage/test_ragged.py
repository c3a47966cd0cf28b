"""Objects come back from typed columns: sequences and graphs, whose elements differ in length, and text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from gymnasium.spaces import GraphInstance
from hypothesis import given
from hypothesis import strategies as st
from traces import alike, assert_same_trajectory, write

from vecrollout import BufferingEnvWrapper, TraceWriter, Trajectory, TrajectoryWithRew, open_traces
from vecrollout.testing import assert_same
from vecrollout.testing.strategies import leaf_spaces, ragged_spaces, trajectories

BOX = spaces.Box(-1, 1, (2,), np.float32)
RAGGED: dict[str, gym.Space[Any]] = {
    "tuples": spaces.Sequence(BOX),
    "stacked": spaces.Sequence(BOX, stack=True),
    "dicts": spaces.Sequence(spaces.Dict(a=spaces.Discrete(3), b=BOX)),
    "dict_of_rows": spaces.Sequence(spaces.Dict(a=spaces.Discrete(3), b=BOX), stack=True),
    "sequences_of_texts": spaces.Sequence(spaces.Sequence(spaces.Text(3))),
    "graph": spaces.Graph(BOX, spaces.Discrete(3)),
    "nodes_alone": spaces.Graph(spaces.Discrete(3), None),
    "in_a_dict": spaces.Dict(graph=spaces.Graph(BOX, BOX), sequence=spaces.Sequence(BOX), level=spaces.Discrete(3)),
    "text": spaces.Text(9),
}
TYPES = {
    "tuples": "list<item: fixed_size_list<item: float>[2]>",
    "stacked": "list<item: fixed_size_list<item: float>[2]>",
    "dicts": "list<item: struct<a: int64, b: fixed_size_list<item: float>[2]>>",
    "dict_of_rows": "struct<a: list<item: int64>, b: list<item: fixed_size_list<item: float>[2]>>",
    "sequences_of_texts": "list<item: list<item: string>>",
    "graph": (
        "struct<nodes: list<item: fixed_size_list<item: float>[2]>, edges: list<item: int64>, "
        "edge_links: list<item: fixed_size_list<item: int32>[2]>>"
    ),
    "nodes_alone": "struct<nodes: list<item: int64>, edges: null, edge_links: null>",
    "text": "string",
}


class Sampling(gym.Env[Any, Any]):
    """Whatever is done, the observation is a sample."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(2)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self.observation_space.sample(), 1.0, self._steps == 9, False, {}


def recorded(space: gym.Space[Any], episodes: int = 3) -> list[TrajectoryWithRew]:
    env = BufferingEnvWrapper(Sampling(space))
    for seed in range(episodes):
        env.reset(seed=seed)
        for _ in range(9):
            env.step(0)
    return env.pop_trajectories()[0]


def objects(values: Sequence[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def of_objects(*values: Any) -> TrajectoryWithRew:
    return TrajectoryWithRew(objects(values), np.zeros(len(values) - 1), None, True, rews=np.zeros(len(values) - 1))


def shards(directory: Path) -> list[Any]:
    return [pa.ipc.open_file(str(path)) for path in sorted(directory.glob("*.arrow"))]


@pytest.mark.parametrize("with_spaces", [True, False])
@pytest.mark.parametrize("name", RAGGED)
def test_every_kind_comes_back(name: str, with_spaces: bool, tmp_path: Path) -> None:
    written = recorded(RAGGED[name])
    with TraceWriter(tmp_path, spaces=(RAGGED[name], spaces.Discrete(2)) if with_spaces else None) as writer:
        for each in written:
            writer.append(each)
    for actual, expected in zip(open_traces(tmp_path), written, strict=True):
        assert_same_trajectory(actual, expected)
    if name in TYPES:
        assert str(shards(tmp_path)[0].schema.field("obs").type) == TYPES[name]


@st.composite
def of_one_space(draw: st.DrawFn) -> tuple[gym.Space[Any], list[TrajectoryWithRew]]:
    space, actions = draw(ragged_spaces()), draw(leaf_spaces())
    drawn = draw(st.lists(trajectories(space, actions), min_size=1, max_size=3))
    return space, alike(drawn)


@given(of_one_space(), st.booleans(), st.booleans(), st.sampled_from(["zstd", None]))
def test_anything_comes_back(
    drawn: tuple[gym.Space[Any], list[TrajectoryWithRew]], with_spaces: bool, flushes: bool, compression: Any
) -> None:
    space, written = drawn
    with tempfile.TemporaryDirectory() as directory:
        both = (space, spaces.Discrete(2)) if with_spaces else None
        with TraceWriter(directory, compression=compression, spaces=both) as writer:
            for each in written:
                writer.append(each)
                if flushes:
                    writer.flush()
        for actual, expected in zip(open_traces(directory), written, strict=True):
            assert_same_trajectory(actual, expected)


def test_objects_of_another_kind_go_to_a_shard_of_their_own(tmp_path: Path) -> None:
    """The first are all empty, then some are not; then come arrays, which have nothing in common with tuples."""
    rows = np.arange(4.0).reshape(2, 2)
    written = [of_objects((), ()), of_objects((rows[0],), ()), of_objects(rows, rows[:1]), of_objects(1, "text")]
    with TraceWriter(tmp_path) as writer:
        for each in written:
            writer.append(each)
            writer.flush()
    types = [str(shard.schema.field("obs").type) for shard in shards(tmp_path)]
    assert types == ["list<item: null>", "list<item: fixed_size_list<item: double>[2]>", "string"]
    for actual, expected in zip(open_traces(tmp_path), written, strict=True):
        assert_same(actual.obs, expected.obs)


def test_data_outweighs_what_the_space_says(tmp_path: Path) -> None:
    written = of_objects((np.zeros(2),), (np.ones(2), np.ones(2)))  # float64, where the space has float32
    with TraceWriter(tmp_path, spaces=(spaces.Sequence(BOX), spaces.Discrete(2))) as writer:
        writer.append(written)
    assert_same_trajectory(open_traces(tmp_path)[0], written)
    assert str(shards(tmp_path)[0].schema.field("obs").type) == "list<item: fixed_size_list<item: double>[2]>"


@pytest.mark.parametrize(
    "value",
    [
        *(True, 3, 2**63, -0.0, "text", "\ud800", b"bytes", None, (), (None,), (1, 2.0), {"a": (1,)}, {}, {1: 2}, [1]),
        *(np.float32(1), np.bool_(True), np.datetime64("2026-01-01"), np.array(3), np.zeros((2, 0)), np.zeros((0, 2))),
        *(
            np.array(["a"]),
            np.array([None]),
            np.zeros(3, ">f4"),
            np.zeros(2, np.longdouble),
            (np.zeros(1), np.zeros(2)),
        ),
    ],
    ids=repr,
)
def test_any_object_comes_back(value: Any, tmp_path: Path) -> None:
    written = of_objects(value, None, value)
    with TraceWriter(tmp_path) as writer:
        writer.append(written)
    assert_same(list(np.asarray(open_traces(tmp_path)[0].obs)), [value, None, value])


def test_a_writer_leaves_the_random_stream_of_its_spaces_alone(tmp_path: Path) -> None:
    space, same = (spaces.Sequence(spaces.Box(-1, 1, (2,))) for _ in range(2))
    for each in (space, same):
        each.seed(3)
    with TraceWriter(tmp_path, spaces=(space, spaces.Discrete(2))) as writer:
        writer.append(of_objects((), ()))
    assert_same([space.sample() for _ in range(3)], [same.sample() for _ in range(3)])


def test_graphs_among_other_objects_come_back(tmp_path: Path) -> None:
    graph = GraphInstance(np.ones((2, 3)), None, None)
    obs = np.empty(3, dtype=object)
    obs[:] = [(np.int64(0), graph), (np.int64(1), np.zeros(3)), graph]
    written = Trajectory(obs=obs, acts=np.arange(2), infos=[{"graph": graph}, {}], terminal=False)
    with TraceWriter(tmp_path) as writer:
        writer.append(written)
    assert_same_trajectory(open_traces(tmp_path)[0], written)


@pytest.mark.parametrize("depth", [1, 32, 33, 70])
@pytest.mark.parametrize("wrap", [lambda value: {"a": value}, lambda value: (value,), lambda value: (value, "a")])
def test_objects_in_objects_in_objects(wrap: Any, depth: int, tmp_path: Path) -> None:
    """Deeper ones than Arrow's types can be."""
    value: Any = np.zeros((2, 3))
    for _ in range(depth):
        value = wrap(value)
    obs = np.empty(2, object)
    obs[0] = obs[1] = value
    write(tmp_path, [Trajectory(obs, np.zeros(1), None, True)])
    assert_same(open_traces(tmp_path)[0].obs[1], value)
