"""A directory that holds traces already: other spaces, overwriting, and trajectories of other traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import Space, spaces
from traces import assert_same_trajectory, of_space

from vecrollout import TraceWriter, open_traces
from vecrollout.errors import OptionError, ProtocolError

ACTIONS = spaces.Discrete(2)
BOX = spaces.Box(-1.0, 1.0, (4,), np.float32)


class Custom(Space[Any]):
    """Not one of Gymnasium's own; its text is another one each time."""

    def __repr__(self) -> str:
        return f"<Custom at {id(self)}>"


def write(directory: Path, observations: Space[Any] | None = BOX, number: int = 0, **options: Any) -> None:
    known = None if observations is None else (observations, ACTIONS)
    with TraceWriter(directory, spaces=known, **options) as writer:
        writer.append(of_space("box", 3, number))


@pytest.mark.parametrize(
    "other",
    [
        spaces.Box(-1.0, 1.0, (5,), np.float32),
        spaces.Box(-1.0, 2.0, (4,), np.float32),
        spaces.Box(-1.0, 1.0, (4,), np.float64),
        spaces.Dict({"a": BOX}),
    ],
    ids=["shape", "bound", "dtype", "kind"],
)
def test_other_spaces(other: Space[Any], tmp_path: Path) -> None:
    write(tmp_path)
    files = sorted(tmp_path.iterdir())
    with pytest.raises(OptionError, match=r"spaces: expected those of the traces in .*mix_spaces=True"):
        write(tmp_path, other)
    assert sorted(tmp_path.iterdir()) == files
    write(tmp_path, other, mix_spaces=True)
    assert len(open_traces(tmp_path)) == 2


def test_the_same_spaces(tmp_path: Path) -> None:
    for number, same in enumerate([None, BOX, None, spaces.Box(-1.0, 1.0, (4,), np.float32)]):
        write(tmp_path, same, number)
    assert len(open_traces(tmp_path)) == 4


def test_the_same_spaces_with_other_seeds(tmp_path: Path) -> None:
    for seed in (None, 1, 2):
        write(tmp_path, spaces.Box(-1.0, 1.0, (4,), np.float32, seed=seed))
    traces = open_traces(tmp_path)
    assert len(traces) == 3
    samples = [traces.about(number)["spaces"][0].sample() for number in (1, 2)]
    expected = [spaces.Box(-1.0, 1.0, (4,), np.float32, seed=seed).sample() for seed in (1, 2)]
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.filterwarnings("ignore:spaces")
def test_spaces_that_are_not_known_are_not_compared(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path, Custom(), number)
    assert len(open_traces(tmp_path)) == 2


def test_spaces_with_long_descriptions(tmp_path: Path) -> None:
    bounds = np.arange(50_000, dtype=np.float32)
    write(tmp_path, spaces.Box(-bounds, bounds))
    write(tmp_path, spaces.Box(-bounds, bounds))
    bounds[-1] = 0
    with pytest.raises(OptionError, match="spaces"):
        write(tmp_path, spaces.Box(-bounds, bounds))


def test_overwriting(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, spaces.Box(-1.0, 1.0, (5,), np.float32), 7, overwrite=True)
    (trajectory,) = open_traces(tmp_path)
    assert_same_trajectory(trajectory, of_space("box", 3, 7))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_directory_with_a_writer_at_work_is_not_overwritten(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 3))
        writer.flush()
        with pytest.raises(ProtocolError, match="overwrite"):
            TraceWriter(tmp_path, overwrite=True)
        writer.append(of_space("box", 2, 1))
    assert len(open_traces(tmp_path)) == 2


def test_trajectories_of_other_traces_bring_what_is_known_of_them(tmp_path: Path) -> None:
    with TraceWriter(
        tmp_path / "first",
        spaces=(BOX, ACTIONS),
        metadata={"run": 7},
        env_spec="Some-v0",
        episode_metadata=lambda each: {"steps": len(each)},
    ) as writer:
        for number in range(3):
            writer.append(of_space("box", 3 + number, number))
    first = open_traces(tmp_path / "first")
    with TraceWriter(tmp_path / "second") as writer:
        writer.extend(first)
    second = open_traces(tmp_path / "second")
    for number in range(3):
        assert_same_trajectory(second[number], first[number])
        assert second.metadata_of(number) == {"steps": 3 + number}
        for name in ("spaces", "env_spec", "metadata"):
            assert second.about(number)[name] == first.about(number)[name]
    assert second.about(0)["spaces"] == (BOX, ACTIONS)
    with TraceWriter(tmp_path / "third", metadata={"run": 8}, episode_metadata=lambda each: {"own": 1}) as writer:
        writer.extend(first)
    third = open_traces(tmp_path / "third")
    assert (third.about(0)["metadata"], third.metadata_of(0)) == ({"run": 8}, {"own": 1})
    assert third.about(0)["env_spec"] == "Some-v0"


def test_a_subclass_that_alters_what_it_appends(tmp_path: Path) -> None:
    class Altering(TraceWriter):
        def append(self, trajectory: Any, /, **options: Any) -> None:
            super().append(trajectory, metadata={"altered": True})

    with Altering(tmp_path) as writer:
        writer.extend([of_space("box", 3, 0), of_space("box", 3, 1)])
    traces = open_traces(tmp_path)
    assert [traces.metadata_of(i) for i in range(2)] == [{"altered": True}] * 2
