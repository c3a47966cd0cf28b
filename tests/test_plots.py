"""Plots of recordings: what they draw, of what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from vecrollout import TraceWriter, Trajectory, TrajectoryBatch, TrajectoryWithRew, open_traces, plots
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError


def batch(acts: Any = None) -> TrajectoryBatch:
    acts = np.array([0, 1, 1, 1, 2, 2]) if acts is None else acts
    rews = np.array([1.0, 1.0, 0.5, 0.5, 0.5, 2.0])
    return TrajectoryBatch.from_arrays(
        np.zeros((9, 2)), acts, rews, lengths=[2, 3, 1], terminated=[True, True, True], truncated=[False] * 3
    )


def dataset(directory: Path) -> Any:
    with TraceWriter(directory) as writer:
        writer.extend(batch())
    return open_traces(directory)


def axes() -> Any:
    return Figure().add_subplot()


def test_returns_and_lengths(tmp_path: Path) -> None:
    for given in (batch(), list(batch()), dataset(tmp_path)):
        for draw, values in ((plots.returns, [2.0, 1.5, 2.0]), (plots.lengths, [2, 3, 1])):
            ax = axes()
            draw(given, ax)
            np.testing.assert_array_equal(ax.collections[0].get_offsets(), [*enumerate(values)])


def test_the_running_mean_is_of_the_last_episodes() -> None:
    episodes = [TrajectoryWithRew(np.zeros((2, 1)), np.zeros(1), None, True, rews=np.ones(1) * n) for n in range(100)]
    ax = axes()
    plots.returns(episodes, ax)
    (line,) = ax.lines
    x, y = line.get_data()
    assert x[0] == 4
    np.testing.assert_allclose(y, np.arange(2.0, 98.0))


def heights(ax: Any) -> dict[float, float]:
    return {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in ax.patches}


def test_discrete_actions_have_a_bar_each(tmp_path: Path) -> None:
    for given in (batch(), list(batch()), dataset(tmp_path)):
        ax = axes()
        plots.actions(given, ax)
        assert heights(ax) == pytest.approx({0: 1 / 6, 1: 3 / 6, 2: 2 / 6})


def test_each_dimension_of_actions_has_a_line() -> None:
    ax = axes()
    plots.actions(batch(np.linspace(-1, 1, 18).reshape(6, 3)), ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["acts[0]", "acts[1]", "acts[2]"]


def test_rewards(tmp_path: Path) -> None:
    for given in (batch(), dataset(tmp_path)):
        ax = axes()
        plots.rewards(given, ax)
        assert sum(heights(ax).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_overview(tmp_path: Path, suffix: str) -> None:
    figure = plots.overview(dataset(tmp_path / "trace"), tmp_path / f"all.{suffix}")
    assert len(figure.axes) == 4
    head = (tmp_path / f"all.{suffix}").read_bytes()[:200]
    assert (b"PNG" if suffix == "png" else b"<?xml") in head


def test_an_iterator_is_gone_through_once() -> None:
    assert len(plots.overview(iter(list(batch()))).axes) == 4


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="plots: expected some of"):
        plots.overview(batch(), plots=["retruns"])
    with pytest.raises(OptionError, match="path: expected the name of a picture"):
        plots.overview(batch(), tmp_path / "x.what")
    with pytest.raises(ShapeError, match="at least one whole episode"):
        plots.returns([], axes())
    with pytest.raises(ShapeError, match="expected rewards"):
        plots.returns([Trajectory(np.zeros((3, 1)), np.zeros(2), None, True)], axes())
    with pytest.raises(ArgumentTypeError, match="expected a data set"):
        plots.lengths(5, axes())  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="expected trajectories"):
        plots.lengths([1], axes())  # type: ignore[list-item]
