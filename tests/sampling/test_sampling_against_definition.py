"""Steps, windows and n-step transitions equal what loops over single trajectories make."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

from vecrollout import TraceWriter, TrajectoryBatch, TrajectoryWithRew, open_traces
from vecrollout.data.trees import stack
from vecrollout.testing.comparison import assert_same
from vecrollout.testing.strategies import leaf_spaces, nested_spaces, ragged_spaces, trajectories


@st.composite
def episodes(draw: Any, *, ragged: bool = False) -> list[TrajectoryWithRew]:
    """Trajectories of one kind; rewards are small whole numbers, so that sums are exact."""
    space = draw(ragged_spaces() if ragged else nested_spaces())
    actions = draw(leaf_spaces())
    drawn = draw(st.lists(trajectories(space, actions, max_steps=9), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return [
        TrajectoryWithRew(**{**vars(each), "rews": rng.integers(-9, 9, len(each)).astype(np.float32)}) for each in drawn
    ]


@contextmanager
def in_memory(listed: list[TrajectoryWithRew]) -> Any:
    yield TrajectoryBatch.from_trajectories(listed)


def on_disk(compression: str | None, memory_bytes: int) -> Callable[..., Any]:
    @contextmanager
    def written(listed: list[TrajectoryWithRew]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            with TraceWriter(folder, compression=compression) as writer:
                for each in listed:
                    writer.append(each)
                    writer.flush()  # a record batch of its own
            yield open_traces(folder, memory_bytes=memory_bytes)

    return written


SOURCES = {
    "memory": in_memory,
    "mapped": on_disk(None, 0),
    "joined": on_disk(None, 1 << 20),
    "compressed": on_disk("zstd", 0),
}


def from_each(listed: list[TrajectoryWithRew]) -> Iterator[Any]:
    """The trajectories as each source has them. A failed example says which."""
    for name, source in SOURCES.items():
        note(f"from {name}")
        with source(listed) as trajectories_:
            yield trajectories_


def naive_step(each: Any, t: int, frames: int | None) -> dict[str, Any]:
    def obs(at: int) -> Any:
        if frames is None:
            return each.obs[at]
        return stack([each.obs[max(0, at - back)] for back in reversed(range(frames))], "obs")

    is_last = t == len(each) - 1
    return {
        "obs": obs(t),
        "acts": each.acts[t],
        "next_obs": obs(t + 1),
        "dones": is_last and each.terminal,
        "terminated": is_last and each.terminated,
        "truncated": is_last and each.truncated,
        "rews": each.rews[t],
        "infos": {} if each.infos is None else each.infos[t],
    }


def naive_window(each: Any, start: int, length: int, gamma: float) -> dict[str, Any]:
    def padded(rows: Any, at: int, count: int) -> Any:
        like = rows[0]
        zeros = np.zeros((), like.dtype) if not hasattr(like, "map_arrays") else None
        blank = like.map_arrays(np.zeros_like) if zeros is None else np.zeros_like(like)
        return rows[at] if 0 <= at < count else blank

    steps = len(each)
    at = range(start, start + length)
    inside = [0 <= t < steps for t in at]
    returns = [
        sum(gamma**j * float(r) for j, r in enumerate(each.rews[t:])) if ok else 0.0
        for t, ok in zip(at, inside, strict=True)
    ]
    return {
        "obs": stack([padded(each.obs, t, steps + 1) for t in range(start, start + length + 1)], "obs"),
        "acts": stack([padded(each.acts, t, steps) for t in at], "acts"),
        "rews": np.array([each.rews[t] if ok else 0 for t, ok in zip(at, inside, strict=True)], np.float32),
        "terminated": np.array([t == steps - 1 and each.terminated for t in at]),
        "truncated": np.array([t == steps - 1 and each.truncated for t in at]),
        "mask": np.array(inside),
        "timesteps": np.array([each.episode.start_step + t if ok else 0 for t, ok in zip(at, inside, strict=True)]),
        "returns_to_go": np.array(returns, np.float32),
    }


def assert_rows(batch: Any, expected: list[dict[str, Any]]) -> None:
    for name in expected[0]:
        if name == "infos":
            assert len(batch.infos) == len(expected)
            for ours, theirs in zip(batch.infos, expected, strict=True):
                assert_same(ours, theirs["infos"], name)
        else:
            assert_same(
                getattr(batch, name),
                stack(
                    [
                        np.asarray(each[name])
                        if np.isscalar(each[name]) or isinstance(each[name], bool)
                        else each[name]
                        for each in expected
                    ],
                    name,
                ),
                name,
            )


@given(st.data())
def test_steps(data: st.DataObject) -> None:
    listed = data.draw(episodes())
    frames = data.draw(st.sampled_from((None, 1, 3)))
    for trajectories_ in from_each(listed):
        items = trajectories_.steps(frame_stack=frames, infos=True)
        expected = [naive_step(each, t, frames) for each in trajectories_ for t in range(len(each))]
        assert len(items) == len(expected)
        chosen = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=20))
        assert_rows(items[chosen], [expected[i] for i in chosen])
        assert_rows(items[:], expected)


@given(st.data())
def test_windows(data: st.DataObject) -> None:
    listed = data.draw(episodes())
    length, stride = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    pad = data.draw(st.sampled_from((None, "before", "after")))
    for trajectories_ in from_each(listed):
        items = trajectories_.windows(length, stride, pad=pad, returns_to_go=0.5)
        places = [
            (each, t - (length - 1 if pad == "before" else 0))
            for each in trajectories_
            for t in range(0, len(each) if pad else len(each) - length + 1, stride)
        ]
        assert len(items) == len(places)
        if places:
            assert_rows(items[:], [naive_window(*place, length, 0.5) for place in places])


@given(st.data())
def test_n_step(data: st.DataObject) -> None:
    listed = data.draw(episodes())
    n, gamma = data.draw(st.integers(1, 6)), 0.5
    for trajectories_ in from_each(listed):
        expected = []
        for each in trajectories_:
            for t in range(len(each)):
                end = min(t + n, len(each))
                reaches = end == len(each)
                value = 0.0 if reaches and each.terminated else gamma ** (end - t)
                expected.append(
                    {
                        "obs": each.obs[t],
                        "acts": each.acts[t],
                        "next_obs": each.obs[end],
                        "rews": np.float32(sum(gamma**j * float(r) for j, r in enumerate(each.rews[t:end]))),
                        "terminated": reaches and each.terminated,
                        "truncated": reaches and each.truncated,
                        "discounts": np.float32(value),
                    }
                )
        assert_rows(trajectories_.n_step(n, gamma)[:], expected)


@given(episodes(ragged=True))
def test_objects(listed: list[TrajectoryWithRew]) -> None:
    for trajectories_ in from_each(listed):
        expected = [naive_step(each, t, None) for each in trajectories_ for t in range(len(each))]
        batch = trajectories_.steps(infos=True)[:]
        for i, each in enumerate(expected):
            for name in ("obs", "next_obs", "infos", "acts"):
                assert_same(getattr(batch, name)[i], each[name], name)


@given(listed=episodes(), gamma=st.sampled_from((0.0, 0.5, 0.99, 1.0)))
def test_returns_to_go(listed: list[TrajectoryWithRew], gamma: float) -> None:
    for trajectories_ in from_each(listed):
        expected = [
            sum(gamma**j * float(r) for j, r in enumerate(each.rews[t:]))
            for each in trajectories_
            for t in range(len(each))
        ]
        found = trajectories_.returns_to_go(gamma)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
