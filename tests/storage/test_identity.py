"""Which episode a trajectory is of: numbers unique in a trace, and no step twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traces import write

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryBatch, open_traces
from vecrollout.data.identities import Identities
from vecrollout.storage.writing.numbering import Numbering


def steps_of(episode: Episode, start: int = 0, stop: int = 3) -> Trajectory:
    """Whose observations are the steps of the episode."""
    obs, has_ended = np.arange(start, stop + 1.0), episode.ended_by == "terminated"
    where = Episode(**{**vars(episode), "start_step": start})
    return Trajectory(obs, np.zeros(stop - start), None, has_ended, episode=where)


def named(recording: str | None, number: int | None, **fields: Any) -> Episode:
    return Episode(number, recording=recording, **{"ended_by": "terminated", **fields})


def place(numbering: Numbering, episode: Episode, steps: int) -> tuple[int, list[tuple[int, int]]]:
    (number,), new = numbering.place(Identities.of([episode]), [steps])
    return number, [(0, steps)] if new is None else new[0]


def read(directory: Path) -> list[tuple[str | None, int | None, list[float]]]:
    return [(each.episode.recording, each.episode.id, list(each.obs)) for each in open_traces(directory)]  # type: ignore[arg-type]


def test_order_is_by_recording_and_then_by_id(tmp_path: Path) -> None:
    episodes = [named("b", 2), named("a", 1), named("b", 0), named("a", 0)]
    write(tmp_path, [steps_of(each) for each in episodes])
    assert [(name, number) for name, number, _ in read(tmp_path)] == [("b", 0), ("b", 2), ("a", 0), ("a", 1)]


def test_the_ids_of_the_first_recording_are_the_episodes_numbers() -> None:
    numbering = Numbering()
    assert [place(numbering, named("a", number), 3)[0] for number in (2, 0, 7)] == [2, 0, 7]
    assert place(numbering, named("b", 2), 3)[0] not in (0, 2, 7)


@pytest.mark.parametrize("recording", ["a", None])
def test_fragments_are_of_one_episode(recording: str | None, tmp_path: Path) -> None:
    running = named(recording, 4, ended_by=None)
    parts = [steps_of(running, 0, 2), steps_of(running, 2, 5), steps_of(named(recording, 4), 7, 9)]
    write(tmp_path, [parts[0], steps_of(named(recording, 5)), *parts[1:]])
    assert open_traces(tmp_path).episodes() == [range(3), range(3, 4)]


def test_what_was_handed_over_before_is_ignored(tmp_path: Path) -> None:
    written = [steps_of(named("a", number)) for number in range(3)]
    with TraceWriter(tmp_path) as writer:
        writer.extend(TrajectoryBatch.from_trajectories(written[:2]))
        writer.extend(written)
        writer.append(written[1])
    assert [number for _, number, _ in read(tmp_path)] == [0, 1, 2]


def test_fragments_that_overlap_are_cut(tmp_path: Path) -> None:
    running = named("a", 0, ended_by=None)
    spans = [(0, 3), (2, 5), (8, 9), (4, 12), (0, 12)]
    write(tmp_path, [steps_of(running, *span) for span in spans])
    assert [obs for _, _, obs in read(tmp_path)] == [
        [0, 1, 2, 3],
        [3, 4, 5],
        [5, 6, 7, 8],
        [8, 9],
        [9, 10, 11, 12],
    ]


@pytest.mark.parametrize("in_a_batch", [True, False])
def test_the_rest_of_an_episode_of_which_a_part_came_before(in_a_batch: bool, tmp_path: Path) -> None:
    whole = [steps_of(named("a", 0), 0, 6), steps_of(named("a", 1), 0, 2)]
    with TraceWriter(tmp_path) as writer:
        writer.append(steps_of(named("a", 0, ended_by=None), 0, 4))
        writer.extend(TrajectoryBatch.from_trajectories(whole) if in_a_batch else whole)
    traces = open_traces(tmp_path)
    assert [list(each.obs) for each in traces] == [[0, 1, 2, 3, 4], [4, 5, 6], [0, 1, 2]]  # type: ignore[arg-type]
    assert [each.episode.ended_by for each in traces] == [None, "terminated", "terminated"]


def test_fragments_may_come_in_any_order(tmp_path: Path) -> None:
    last, first = steps_of(named("a", 0), 3, 6), steps_of(named("a", 0, ended_by=None), 0, 3)
    write(tmp_path, [last, first, last, first])
    assert [obs for _, _, obs in read(tmp_path)] == [[0, 1, 2, 3], [3, 4, 5, 6]]


@pytest.mark.parametrize(("recording", "number"), [(None, 3), ("a", None), (None, None), ("a", -1)])
def test_without_a_recording_or_an_id_all_is_written(recording: Any, number: Any, tmp_path: Path) -> None:
    write(tmp_path, [steps_of(named(recording, number))] * 3)
    assert len(open_traces(tmp_path).episodes()) == 3


def test_numbers_stay_unique() -> None:
    """Whatever the ids: those of two recordings without a name, too large ones, and missing ones."""
    numbering = Numbering()
    ids: Sequence[int | None] = [0, 1, 0, 1, 2, None, 2**62, 2**63 - 1, None, 5, 5, -3]
    numbers = [place(numbering, named(None, number), 3)[0] for number in ids]
    assert len(set(numbers)) == len(ids)
    assert all(0 <= number < 2**63 for number in numbers)


def test_an_episode_that_runs_across_300000_others() -> None:
    numbering = Numbering()
    running = named("a", 0, ended_by=None)
    first, _ = place(numbering, running, 10)
    for start in range(1, 300_001, 1000):
        others = Identities.of([named("a", number) for number in range(start, start + 1000)])
        numbers, new = numbering.place(others, [5] * 1000)
        assert (numbers.tolist(), new) == ([*range(start, start + 1000)], None)
    assert place(numbering, named("a", 0, start_step=10), 10) == (first, [(0, 10)])
    assert place(numbering, named("a", 0, start_step=10), 10)[1] == []
    assert place(numbering, named("a", 17), 5)[1] == []
