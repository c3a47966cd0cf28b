from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vecrollout import TrajectoryWithRew, discounted_sum, errors, rollout_stats


def trajectory(rews, infos=None, dtype=np.float64) -> TrajectoryWithRew:
    steps = len(rews)
    return TrajectoryWithRew(
        obs=np.arange(steps + 1), acts=np.arange(steps), infos=infos, terminal=True, rews=np.array(rews, dtype)
    )


def monitored(rews, seen) -> TrajectoryWithRew:
    """As SB3's `Monitor` leaves it: a record in the last info."""
    return trajectory(rews, [{} for _ in rews[1:]] + [{"episode": {"r": seen, "l": len(rews), "t": 0.1}}])


class TestRolloutStats:
    def test_returns_and_lengths(self) -> None:
        stats = rollout_stats([trajectory([1, 2, 3]), trajectory([-4]), trajectory([0.5, 0.5])])
        assert stats == {
            "n_traj": 3,
            "return_min": -4.0,
            "return_mean": 1.0,
            "return_std": pytest.approx(np.sqrt((25 + 25 + 0) / 3)),
            "return_max": 6.0,
            "len_min": 1,
            "len_mean": 2.0,
            "len_std": pytest.approx(np.sqrt(2 / 3)),
            "len_max": 3,
        }

    def test_values_are_python_numbers_under_imitations_names_in_its_order(self) -> None:
        stats = rollout_stats([monitored([1.0, 2.0], 8.0)])
        kinds = ["return", "len", "monitor_return"]
        names = [f"{kind}_{statistic}" for kind in kinds for statistic in ("min", "mean", "std", "max")]
        assert list(stats) == ["n_traj", "monitor_return_len", *names]
        assert {type(value) for value in stats.values()} == {int, float}

    def test_monitor_counts_the_trajectories_that_have_its_record(self) -> None:
        stats = rollout_stats(
            [monitored([1.0], 10.0), trajectory([1.0]), trajectory([1.0], [{}]), monitored([1.0], 20.0)]
        )
        assert stats["n_traj"] == 4
        assert stats["monitor_return_len"] == 2
        assert (stats["monitor_return_min"], stats["monitor_return_mean"], stats["monitor_return_max"]) == (10, 15, 20)
        assert stats["return_mean"] == 1

    def test_no_monitor(self) -> None:
        assert not [name for name in rollout_stats([trajectory([1.0], [{}])]) if "monitor" in name]

    def test_a_return_is_summed_in_the_order_of_the_steps(self) -> None:
        # In float32, 2 ** 24 + 1 is 2 ** 24: each of the ones is lost where the large number comes first. Whether
        # Python adds in float32 or in float64 depends on the version of NumPy.
        ones = [1.0] * 100
        large_first = np.array([2.0**24, *ones], dtype=np.float32)
        assert rollout_stats([trajectory(large_first, dtype=np.float32)])["return_max"] == sum(large_first)
        assert rollout_stats([trajectory([*ones, 2.0**24], dtype=np.float32)])["return_max"] == 2.0**24 + 100
        assert rollout_stats([trajectory([2.0**24, *ones])])["return_max"] == 2.0**24 + 100

    def test_none(self) -> None:
        with pytest.raises(errors.ShapeError, match="at least one"):
            rollout_stats([])


def defined_sum(values, gamma):
    return sum((gamma**t * value for t, value in enumerate(values)), start=0.0)


class TestDiscountedSum:
    @given(
        hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(-100, 100)),
        st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0, 1]) | st.floats(0, 1),
    )
    def test_one_dimension(self, arr, gamma) -> None:
        assert discounted_sum(arr, gamma) == pytest.approx(defined_sum(arr.tolist(), gamma), abs=1e-9)

    @given(
        hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.integers(0, 5)), elements=st.floats(-100, 100)),
        st.floats(0, 1),
    )
    def test_two_dimensions_have_time_first(self, arr, gamma) -> None:
        total = discounted_sum(arr, gamma)
        assert total.shape == (arr.shape[1],)
        assert total.tolist() == pytest.approx([defined_sum(column, gamma) for column in arr.T.tolist()], abs=1e-9)

    def test_the_first_step_is_not_discounted(self) -> None:
        assert discounted_sum(np.array([3.0, 100.0]), 0.0) == 3.0

    def test_lists_and_integers(self) -> None:
        assert discounted_sum([4, 2, 4], 0.5) == 6.0
        assert discounted_sum([4, 2, 4], 1) == 10

    def test_the_input_stays(self) -> None:
        arr = np.ones(3)
        discounted_sum(arr, 0.5)
        assert arr.tolist() == [1, 1, 1]

    @pytest.mark.parametrize("arr", [np.float64(1), np.zeros((1, 1, 1))])
    def test_other_dimensions(self, arr) -> None:
        with pytest.raises(errors.ShapeError, match=r"\(T,\) or \(T, N\)"):
            discounted_sum(arr, 0.5)
