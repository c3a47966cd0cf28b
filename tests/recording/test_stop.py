from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecrollout import (
    Episode,
    TrajectoryWithRew,
    errors,
    make_min_episodes,
    make_min_timesteps,
    make_sample_until,
)
from vecrollout.collecting.stop import Collected


def trajectory(steps: int, env_index: int = 0, terminal: bool = True) -> TrajectoryWithRew:
    return TrajectoryWithRew(
        obs=100 * env_index + np.arange(steps + 1),
        acts=np.arange(steps),
        infos=[{"t": t + 1} for t in range(steps)],
        terminal=terminal,
        rews=np.arange(steps) + 0.5,
        episode=Episode(id=env_index, env_index=env_index, ended_by="terminated" if terminal else None),
    )


def trajectories(*lengths: int) -> list[TrajectoryWithRew]:
    return [trajectory(steps, env_index) for env_index, steps in enumerate(lengths)]


class TestConditions:
    def test_episodes(self) -> None:
        enough = make_min_episodes(2)
        assert [enough(trajectories(*[5] * n)) for n in range(4)] == [False, False, True, True]

    def test_timesteps(self) -> None:
        enough = make_min_timesteps(7)
        assert not enough([])
        assert not enough(trajectories(6))
        assert not enough(trajectories(1, 2, 3))
        assert enough(trajectories(7))
        assert enough(trajectories(1, 2, 3, 1))

    def test_both(self) -> None:
        enough = make_sample_until(min_timesteps=7, min_episodes=2)
        assert not enough(trajectories(100))
        assert not enough(trajectories(1, 1, 1))
        assert enough(trajectories(3, 4))

    def test_one_of_both(self) -> None:
        assert make_sample_until(min_timesteps=7)(trajectories(7))
        assert make_sample_until(min_episodes=2)(trajectories(1, 1))
        assert not make_sample_until(None, 2)(trajectories(100))

    def test_a_condition_remembers_nothing_of_other_sequences(self) -> None:
        enough = make_sample_until(min_timesteps=7, min_episodes=2)
        long, short = trajectories(9, 9), trajectories(1, 1)
        assert [enough(each) for each in (long, short, long, short)] == [True, False, True, False]
        long[:] = short
        assert not enough(long)

    def test_any_sequence(self) -> None:
        assert make_min_timesteps(3)(tuple(trajectories(1, 2)))

    def test_a_number_in_scientific_notation(self) -> None:
        assert make_min_timesteps(1e1)(trajectories(10))
        assert not make_min_timesteps(1e1)(trajectories(9))

    @pytest.mark.parametrize("given", [{}, {"min_timesteps": None, "min_episodes": None}])
    def test_neither(self, given) -> None:
        with pytest.raises(errors.OptionError, match="At least one"):
            make_sample_until(**given)

    @pytest.mark.parametrize("n", [0, -34, float("nan"), float("inf")])
    def test_not_positive(self, n) -> None:
        for make in (make_min_episodes, lambda n: make_sample_until(None, n), lambda n: make_sample_until(10, n)):
            with pytest.raises(errors.OptionError, match=r"min_episodes.*positive"):
                make(n)
        for make in (make_min_timesteps, lambda n: make_sample_until(n, None), lambda n: make_sample_until(n, 10)):
            with pytest.raises(errors.OptionError, match=r"min_timesteps.*positive"):
                make(n)

    @pytest.mark.parametrize("n", ["10", [10]])
    def test_no_number(self, n) -> None:
        for make in (make_min_episodes, make_min_timesteps, lambda n: make_sample_until(n, 1)):
            with pytest.raises(errors.ArgumentTypeError, match="expected a positive number"):
                make(n)


def cuts(listed: list[TrajectoryWithRew]) -> list[tuple[int, int]]:
    """Every beginning of the trajectories, as how many of them are whole, and how many steps there are of the next."""
    return (
        [(0, 0)]
        + [(i, t) for i, each in enumerate(listed) for t in range(1, len(each))]
        + [(len(listed), 0)]
        + [(i, 0) for i in range(1, len(listed))]
    )


@st.composite
def demands(draw) -> tuple[int | None, int | None]:
    options = st.none() | st.integers(1, 20), st.none() | st.integers(1, 6)
    return draw(st.tuples(*options).filter(lambda pair: pair != (None, None)))


class TestExactly:
    @given(st.lists(st.integers(1, 6), max_size=6), demands())
    def test_is_the_shortest_beginning_that_is_enough(self, lengths, demand) -> None:
        timesteps, episodes = demand
        listed = trajectories(*lengths)

        def steps(cut: tuple[int, int]) -> int:
            return sum(lengths[: cut[0]]) + cut[1]

        enough = [cut for cut in cuts(listed) if steps(cut) >= (timesteps or 0) and cut[0] >= (episodes or 0)]
        whole, rest = min(enough, key=steps, default=(len(listed), 0))

        kept = make_sample_until(timesteps, episodes).exactly(listed)
        assert kept[:whole] == listed[:whole]
        assert [len(each) for each in kept[whole:]] == ([rest] if rest else [])

    def test_a_cut_trajectory_is_a_fragment_from_the_start(self) -> None:
        whole = trajectory(5, 3)
        (cut,) = make_min_timesteps(2).exactly([whole])
        assert cut.obs.tolist() == [300, 301, 302]
        assert cut.acts.tolist() == [0, 1]
        assert cut.rews.tolist() == [0.5, 1.5]
        assert cut.infos.tolist() == [{"t": 1}, {"t": 2}]
        assert (cut.terminal, cut.terminated, cut.truncated) == (False, False, False)
        assert cut.episode == Episode(id=3, env_index=3)
        assert len(whole) == 5

    def test_without_infos(self) -> None:
        whole = TrajectoryWithRew(np.arange(4), np.arange(3), None, True, rews=np.zeros(3))
        (cut,) = make_min_timesteps(1).exactly([whole])
        assert cut.infos is None

    def test_a_trajectory_that_just_fits_is_not_cut(self) -> None:
        listed = trajectories(2, 3, 4)
        assert [each.terminal for each in make_min_timesteps(5).exactly(listed)] == [True, True]

    def test_fragments_are_steps_but_no_episodes(self) -> None:
        listed = [trajectory(3), trajectory(4, terminal=False), trajectory(5)]
        assert len(make_min_episodes(2).exactly(listed)) == 3
        assert list(map(len, make_min_timesteps(5).exactly(listed))) == [3, 2]

    def test_all_where_they_are_not_enough(self) -> None:
        listed = trajectories(2, 3)
        assert make_min_timesteps(6).exactly(listed) == listed
        assert make_min_episodes(3).exactly(listed) == listed

    def test_the_given_list_stays(self) -> None:
        listed = trajectories(2, 3)
        make_min_timesteps(1).exactly(listed)
        assert list(map(len, listed)) == [2, 3]


class TestCollected:
    def test_is_a_sequence(self) -> None:
        collected = Collected()
        assert (len(collected), collected.steps, list(collected)) == (0, 0, [])
        listed = trajectories(2, 3, 4)
        collected.extend(listed[:1])
        collected.extend(listed[1:])
        assert (len(collected), collected.steps) == (3, 9)
        assert list(collected) == listed
        assert collected[-1] is listed[2]
        assert collected[1:] == listed[1:]

    def test_a_condition_does_not_count_anew(self) -> None:
        """Else a collection of n trajectories would take n ** 2 operations."""
        counted = itertools.count()

        class Counted:
            def __len__(self) -> int:
                next(counted)
                return 3

        collected = Collected()
        enough = make_sample_until(min_timesteps=300, min_episodes=2)
        calls = 0
        while not enough(collected):
            collected.extend([Counted()])
            calls += 1
            for _ in range(5):
                enough(collected)
        assert calls == 100
        assert next(counted) == 100
