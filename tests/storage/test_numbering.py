"""Numbers of episodes: unique in a trace, in the order of the episodes' starts."""

from __future__ import annotations

from typing import Any

import pytest

from vecrollout import Episode
from vecrollout.errors import OptionError
from vecrollout.storage.numbering import Numbering


def ended(number: int | None, start_step: int = 0) -> Episode:
    return Episode(number, start_step=start_step, ended_by="terminated")


def numbered(*episodes: Episode, steps: int = 5) -> list[int]:
    numbering = Numbering()
    return [numbering.number(episode, steps) for episode in episodes]


def test_the_ids_of_the_first_recording_stay() -> None:
    assert numbered(*map(ended, (2, 0, 1, 7, 3))) == [2, 0, 1, 7, 3]


def test_a_second_recording_comes_behind_the_first() -> None:
    assert numbered(*map(ended, (1, 0, 2, 0, 2, 1))) == [1, 0, 2, 3, 5, 4]


def test_a_third_recording_whose_ids_leave_gaps() -> None:
    assert numbered(*map(ended, (0, 4, 4, 4))) == [0, 4, 9, 14]


def test_fragments_share_their_episodes_number() -> None:
    first, second = Episode(0), Episode(0, start_step=5)
    assert numbered(first, ended(1), second, ended(0, 10), ended(2)) == [0, 1, 0, 0, 2]


def test_fragments_with_a_gap_between_them_share_it_too() -> None:
    assert numbered(Episode(3), ended(3, 9)) == [3, 3]


def test_a_fragment_that_overlaps_the_one_before_is_of_another_recording() -> None:
    assert numbered(Episode(3), ended(3, 4)) == [3, 7]


def test_recordings_that_come_in_turns() -> None:
    """Their ids and steps are the same; the observations where fragments meet are not."""
    numbering = Numbering()

    def number(name: str, start: int, stop: int, id_: int = 0, **ends: Any) -> int:
        rows = [f"{name}{id_}{step}" for step in range(start, stop + 1)]
        return numbering.number(Episode(id_, start_step=start, **ends), stop - start, lambda at: rows[at])

    assert [number(name, 0, 5) for name in "abc"] == [0, 1, 2]
    assert [number(name, 5, 8) for name in "abc"] == [0, 1, 2]
    assert [number(name, 8, 9, ended_by="terminated") for name in "cab"] == [2, 0, 1]
    # The third one's is at hand; of the first one there was nothing.
    assert number("c", 0, 4, 1) == 3
    assert number("a", 4, 6, 1) == 5
    # Of the recording that is at hand, with steps left out.
    assert number("a", 8, 9, 1) == 5


def test_nothing_follows_the_end_of_an_episode() -> None:
    assert numbered(ended(0), ended(0, 5)) == [0, 1]


def test_an_episode_that_runs_across_300000_others() -> None:
    numbering = Numbering()
    assert numbering.number(Episode(0), 10) == 0
    for number in range(1, 300_001):
        assert numbering.number(ended(number), 5) == number
    assert numbering.number(Episode(0, start_step=10), 10) == 0
    assert numbering.number(ended(300_001), 5) == 300_001
    assert numbering.number(ended(0, 20), 10) == 0
    assert len(numbering._next_step) < 300_000
    # Ids that are not remembered one by one are known to have ended all the same.
    assert numbering.number(ended(17), 5) == 300_002 + 17


@pytest.mark.parametrize("missing", [None, -1])
def test_missing_ids(missing: int | None) -> None:
    """Each such trajectory is an episode of its own."""
    assert numbered(*[ended(missing)] * 3) == [0, 1, 2]
    assert numbered(ended(5), ended(missing), ended(0), ended(1), ended(missing)) == [5, 6, 7, 8, 9]


def test_a_number_of_more_than_64_bits_is_refused_and_does_no_harm() -> None:
    numbering = Numbering()
    assert numbering.number(ended(5), 1) == 5
    assert numbering.number(ended(5), 1) == 11
    with pytest.raises(OptionError, match=r"episode\.id"):
        numbering.number(ended(2**63 - 1), 1)
    assert numbering.number(ended(6), 1) == 12
