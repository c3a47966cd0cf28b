"""From trajectories to a format and back: equal, but for what the report says is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces as kinds
from hypothesis import given
from hypothesis import strategies as st
from trajectories import alike, assert_equal, without_empty

from vecrollout.testing import strategies as ours

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

from vecrollout.interop.csv import from_csv, to_csv
from vecrollout.interop.d3rlpy import from_d3rlpy, to_d3rlpy
from vecrollout.interop.d4rl import from_d4rl, to_d4rl
from vecrollout.interop.minari import from_minari, to_minari
from vecrollout.interop.npz import from_npz, to_npz
from vecrollout.interop.robomimic import from_robomimic, to_robomimic

FORMATS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "csv": (to_csv, from_csv),
    "d3rlpy": (to_d3rlpy, from_d3rlpy),
    "d4rl": (to_d4rl, from_d4rl),
    "npz": (to_npz, from_npz),
    "robomimic": (to_robomimic, from_robomimic),
}


@contextmanager
def there_and_back(trajectories: Any, name: str, **options: Any) -> Iterator[tuple[Any, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "converted-v0"
        write, read = FORMATS[name] if name != "minari" else (to_minari, from_minari)
        report = write(trajectories, path, **options)
        found = read(path)
        yield report, found
        if hasattr(found, "close"):
            found.close()


leaves = ours.leaf_spaces()
trees = ours.nested_spaces()
flat_dicts = st.dictionaries(st.sampled_from(("a", "camera", "ünïcode")), leaves, min_size=1, max_size=3)


@given(alike(trees, leaves))
def test_minari(given_: Any) -> None:
    spaces, trajectories = given_
    with there_and_back(trajectories, "minari", spaces=spaces) as (report, found):
        assert report.fragments == sum(each.episode.start_step > 0 for each in trajectories)
        assert (found.observation_space, found.action_space) == spaces
        for each, expected in zip(found, trajectories, strict=True):
            assert_equal(each, expected)
            assert each.episode.seed == expected.episode.seed


@given(alike(trees, leaves))
def test_npz(given_: Any) -> None:
    _, trajectories = given_
    with there_and_back(trajectories, "npz") as (report, found):
        assert not report.dtypes
        for each, expected in zip(found, trajectories, strict=True):
            assert_equal(each, expected)


@given(alike(trees.filter(without_empty), leaves.filter(without_empty)))
def test_csv(given_: Any) -> None:
    _, trajectories = given_
    with there_and_back(trajectories, "csv") as (report, found):
        assert report.fragments == report.last_observations == 0
        for each, expected in zip(found, trajectories, strict=True):
            assert_equal(each, expected, dtypes=False)
            assert each.episode.start_step == expected.episode.start_step


@given(alike(leaves.filter(without_empty), leaves.filter(without_empty)))
def test_d4rl(given_: Any) -> None:
    _, trajectories = given_
    with there_and_back(trajectories, "d4rl") as (report, found):
        assert report.fragments == sum(not each.terminal or each.episode.start_step > 0 for each in trajectories)
        for each, expected in zip(found, trajectories, strict=True):
            assert_equal(each, expected, flags=expected.terminal)
            assert each.terminal


@given(alike(leaves | flat_dicts.map(kinds.Dict), leaves))
def test_robomimic(given_: Any) -> None:
    _, trajectories = given_
    with there_and_back(trajectories, "robomimic") as (report, found):
        assert report.fragments == sum(each.episode.start_step > 0 for each in trajectories)
        for each, expected in zip(found, trajectories, strict=True):
            assert_equal(each, expected)


@given(alike(leaves, leaves))
def test_d3rlpy(given_: Any) -> None:
    _, trajectories = given_
    with there_and_back(trajectories, "d3rlpy") as (report, found):
        assert report.last_observations == sum(each.terminated for each in trajectories)
        for each, expected in zip(found, trajectories, strict=True):
            if "obs" not in report.dtypes:
                held = -1 if expected.terminated else None
                np.testing.assert_equal(each.obs[:held], expected.obs[:held])
                assert each.obs.dtype == expected.obs.dtype
            if "acts" not in report.dtypes:
                np.testing.assert_equal(each.acts, expected.acts)
            with np.errstate(over="ignore"):
                np.testing.assert_equal(each.rews, expected.rews.astype(np.float32))
            assert each.terminated == expected.terminated
            assert each.truncated == (not expected.terminated)
