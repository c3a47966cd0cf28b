"""Views of data sets beside the same operations on plain lists of trajectories."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choices import choices, cut_as
from vecrollout import (
    Episode,
    TraceDataset,
    TraceWriter,
    Trajectory,
    TrajectoryBatch,
    TrajectoryWithRew,
    open_traces,
    rollout_stats,
    stitch,
)
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    MissingDependencyError,
    OptionError,
    ProtocolError,
    SpaceMismatchError,
    StateError,
)

SETTINGS = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
ENDINGS = ("terminated", "truncated", "closed", None)


def made(number: int, steps: int, *, start: int = 0, recording: str | None = "r", ended_by: Any = "terminated") -> Any:
    """Observations and rewards tell the episode and the step; sums of the rewards are exact."""
    at = np.arange(start, start + steps + 1)
    return TrajectoryWithRew(
        {"t": at, "n": np.full(steps + 1, number)},
        at[:-1] * 10,
        np.array([{"t": int(t)} for t in at[:-1]]) if number % 3 == 0 else None,
        ended_by in ("terminated", "truncated"),
        rews=((at[:-1] + number) % 7) * 0.25,
        terminated=ended_by == "terminated",
        truncated=ended_by == "truncated",
        episode=Episode(
            id=number, env_index=number % 2, start_step=start, seed=number, ended_by=ended_by, recording=recording
        ),
    )


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two directories: of two writers and of one; of several shards, with fragments, and a large trajectory."""
    rng = np.random.default_rng(0)
    found = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")]
    for number, recording in enumerate(("a", "b", "c")):
        with TraceWriter(found[number // 2], max_shard_bytes=4096, metadata={"policy": f"p{number}"}) as writer:
            for i in range(12):
                steps = 9000 if (number, i) == (0, 5) else int(rng.integers(1, 30))
                ended_by = ENDINGS[int(rng.integers(3))]
                if i % 4 == 3:
                    cut = steps // 2 + 1
                    writer.append(made(i, cut, recording=recording, ended_by=None))
                    writer.append(made(i, 5, start=cut, recording=recording, ended_by=ended_by))
                else:
                    writer.append(made(i, steps, recording=recording, ended_by=ended_by), metadata={"i": i})
                if i % 5 == 0:
                    writer.flush()
    return found


def all_of(directories: list[Path]) -> tuple[TraceDataset, list[Any]]:
    traces = open_traces(directories)
    return traces, list(traces)


def check_same(view: TraceDataset, expected: list[Any]) -> None:
    """The view reads as the list in every way."""
    assert len(view) == len(expected)
    assert list(view) == expected
    assert [each.episode for each in view] == [each.episode for each in expected]
    assert [view[i] for i in range(len(view))] == expected
    assert [each for batch in view.batches() for each in batch] == expected or view.order.is_all
    assert [view.identity(i) for i in range(len(view))] == [each.episode for each in expected]
    assert view.total_steps == sum(map(len, expected))
    table = view.to_arrow()
    assert table.column("return_").to_pylist() == [float(each.rews.sum()) for each in expected]
    assert table.column("length").to_pylist() == [len(each) for each in expected]
    for name in ("terminated", "truncated"):
        assert table.column(name).to_pylist() == [getattr(each, name) for each in expected]
    for column, name in {"env": "env_index", **{n: n for n in ("seed", "id", "start_step", "ended_by")}}.items():
        assert table.column(column).to_pylist() == [getattr(each.episode, name) for each in expected]
    if expected:
        steps = view.steps()
        assert len(steps) == view.total_steps
        numbers = np.random.default_rng(1).permutation(len(steps))[:200]
        flat = [(i, t) for i, each in enumerate(expected) for t in range(len(each))]
        got = steps[numbers]
        for name, at in (("obs", 0), ("next_obs", 1)):
            wanted = [expected[i].obs.get("t")[t + at] for i, t in (flat[n] for n in numbers)]
            assert getattr(got, name).get("t").tolist() == wanted
        assert got.acts.tolist() == [expected[i].acts[t] for i, t in (flat[n] for n in numbers)]
        assert got.rews.tolist() == [expected[i].rews[t] for i, t in (flat[n] for n in numbers)]
        assert got.dones.tolist() == [
            expected[i].terminal and t == len(expected[i]) - 1 for i, t in (flat[n] for n in numbers)
        ]


def test_all_of_several_directories(directories: list[Path]) -> None:
    traces, expected = all_of(directories)
    assert expected == [each for path in directories for each in open_traces(path)]
    assert traces.path == directories
    check_same(traces, expected)


@SETTINGS
@given(data=st.data())
def test_any_chain_of_views(directories: list[Path], data: st.DataObject) -> None:
    """Each verb does to a data set what it does to a list."""
    view, expected = all_of(directories)
    for _ in range(data.draw(st.integers(1, 4), "verbs")):
        verb = data.draw(st.sampled_from(["choose", "sort", "filter", "expression", "trim", "concat"]))
        count = len(expected)
        if verb == "choose":
            key, numbers = data.draw(choices(count))
            view, expected = view[key], [expected[i] for i in numbers]
        elif verb == "sort":
            descending = data.draw(st.booleans())
            view = view.sort_by("return_", descending=descending)
            expected = sorted(expected, key=lambda each: float(each.rews.sum()), reverse=descending)
        elif verb == "filter":
            view = view.filter(lambda each: each.episode.id % 2 == 0)
            expected = [each for each in expected if each.episode.id % 2 == 0]
        elif verb == "expression":
            view = view.filter((pc.field("length") > 6) & (pc.field("env") == 1))
            expected = [each for each in expected if len(each) > 6 and each.episode.env_index == 1]
        elif verb == "trim":
            start, stop = data.draw(st.integers(-6, 6)), data.draw(st.integers(-6, 12) | st.none())
            view = view.trim(start, stop)
            expected = [part for each in expected if (part := cut_as(each, start, stop)) is not None]
        else:
            view, expected = view.concat(view[:2]), expected + expected[:2]
    check_same(view, expected)
    check_same(pickle.loads(pickle.dumps(view)), expected)


@SETTINGS
@given(
    shares=st.lists(st.integers(0, 10), min_size=1, max_size=4).filter(any),
    seed=st.integers(0, 99),
    trimmed=st.booleans(),
)
def test_split_keeps_episodes_together(directories: list[Path], shares: list[int], seed: int, trimmed: bool) -> None:
    traces = open_traces(directories)
    view = traces.trim(1) if trimmed else traces[::-1]
    fractions = {str(i): share / sum(shares) for i, share in enumerate(shares)}
    parts = view.split(fractions, np.random.default_rng(seed))
    assert list(parts) == list(fractions)
    keys = {name: {(each.episode.recording, each.episode.id) for each in part} for name, part in parts.items()}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values()))
    assert sum(map(len, parts.values())) == len(view)
    total = len(set().union(*keys.values()))
    assert all(abs(len(keys[name]) - total * fraction) <= 1 for name, fraction in fractions.items())
    again = view.split(fractions, np.random.default_rng(seed))
    assert all(list(again[name]) == list(part) for name, part in parts.items())
    order = {(each.episode.recording, each.episode.id, each.episode.start_step): i for i, each in enumerate(view)}
    for part in parts.values():
        places = [order[each.episode.recording, each.episode.id, each.episode.start_step] for each in part]
        assert places == sorted(places)


def test_stitched(directories: list[Path]) -> None:
    traces, fragments = all_of(directories)
    episodes: dict[Any, list[Any]] = {}
    for each in fragments:
        episodes.setdefault((each.episode.recording, each.episode.id), []).append(each)
    expected = [stitch(parts) for parts in episodes.values()]
    check_same(traces.stitched(), expected)
    check_same(traces[::-1].stitched()[::-1], list(reversed(stitched(fragments[::-1]))))
    check_same(traces.stitched().trim(2, 9)[::2], [p for e in expected if (p := cut_as(e, 2, 9))][::2])
    # Without the middle of an episode there is nothing to join.
    apart = traces.trim(stop=-1).filter(pc.field("id") == 3)
    check_same(apart.stitched(), list(apart))
    check_same(traces.whole_episodes(), [each for each in expected if each.terminal])
    assert len(traces.trim(1).whole_episodes()) == 0


def stitched(fragments: list[Any]) -> list[Any]:
    episodes: dict[Any, list[Any]] = {}
    for each in fragments:
        episodes.setdefault((each.episode.recording, each.episode.id), []).append(each)
    return [stitch(parts) for parts in episodes.values()]


def doubled(trajectory: Any) -> Any:
    return trajectory.rews * 2 + len(trajectory)


def test_relabel(directories: list[Path]) -> None:
    traces, plain = all_of(directories)
    expected = [TrajectoryWithRew(**{**vars(each), "rews": doubled(each)}) for each in plain]
    view = traces.relabel(rews=doubled)
    check_same(view, expected)
    check_same(view[::-3].trim(1), [p for e in expected[::-3] if (p := cut_as(e, 1, None))])
    # Of trimmed trajectories the function sees what is left.
    trimmed = [p for e in plain if (p := cut_as(e, 3, None))]
    relabeled = [TrajectoryWithRew(**{**vars(each), "rews": doubled(each)}) for each in trimmed]
    check_same(traces.trim(3).relabel(rews=doubled), relabeled)
    check_same(view.concat(traces), expected + plain)
    assert view.columns(0, ["rews", "acts"])["rews"].tolist() == expected[0].rews.tolist()
    assert view.metadata_of(0) == traces.metadata_of(0)
    for wrong in (lambda each: each.rews[1:], lambda each: each.acts):
        with pytest.raises(ValueError, match="rews"):
            list(traces.relabel(rews=wrong))
    with pytest.raises(ArgumentTypeError, match="rews"):
        traces.relabel(rews=3)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(view))[3] == expected[3]


@pytest.mark.parametrize("verb", ["stitched", "relabel"])
def test_what_is_known_of_derived_views(directories: list[Path], verb: str) -> None:
    traces = open_traces(directories)
    view = traces.stitched() if verb == "stitched" else traces.relabel(rews=doubled)
    assert len(view.episodes()) == len(traces.episodes()) == 36
    size = [line for line in traces.summary().splitlines() if line.startswith("size")]
    assert [line for line in view.summary().splitlines() if line.startswith("size")] == size
    assert list(pickle.loads(pickle.dumps(view))) == list(view)
    assert [view.about(i)["metadata"] for i in (0, -1)] == [{"policy": "p0"}, {"policy": "p2"}]
    drawn = view.concat(traces).steps(infos=True)[[0, view.total_steps]]
    assert [dict(each) for each in drawn.infos] == [{"t": 0}, {"t": 0}]


def test_rewards_for_trajectories_without_any(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.arange(3.0), np.zeros(2), None, True))
    traces = open_traces(tmp_path)
    assert traces.to_arrow().column("return_").to_pylist() == [None]
    assert traces.stats == {
        "n_traj": 1,
        **{f"len_{name}": value for name, value in zip(("min", "mean", "std", "max"), (2, 2, 0, 2), strict=True)},
    }
    assert "return        -" in traces.summary()
    view = traces.relabel(rews=lambda each: np.asarray(each.obs[1:]))
    assert view[0].rews.tolist() == [1.0, 2.0]
    assert view.to_arrow().column("return_").to_pylist() == [3.0]


def test_metadata_is_in_the_table(directories: list[Path]) -> None:
    traces = open_traces(directories)
    table = traces.to_arrow()
    assert set(table.column("policy").to_pylist()) == {"p0", "p1", "p2"}
    numbers = [traces.metadata_of(number).get("i") for number in range(len(traces))]
    assert table.column("i").to_pylist() == numbers
    view = traces.filter((pc.field("policy") == "p1") & (pc.field("i") > 3))
    assert all(each.episode.recording == "b" and each.episode.id > 3 for each in view)
    assert len(view)


def test_kinds_of_metadata(tmp_path: Path) -> None:
    values: list[Any] = [1, "a", None, np.arange(2), {"x": 1}, np.float32(2.5), 2**80]
    with TraceWriter(tmp_path, metadata={"length": 7, "lr": np.float32(0.5)}) as writer:
        for number, value in enumerate(values):
            writer.append(made(number, 2), metadata={"mixed": value, "ended_by": "me"})
    table = open_traces(tmp_path).to_arrow()
    assert table.column("metadata.length").to_pylist() == [7] * 7
    assert table.column("metadata.ended_by").to_pylist() == ["me"] * 7
    assert table.column("lr").to_pylist() == [0.5] * 7
    mixed = table.column("mixed").to_pylist()
    assert mixed[:3] == ["1", "a", None]
    assert '"x":1' in mixed[4]


def test_summary_and_stats(directories: list[Path]) -> None:
    traces, plain = all_of(directories)
    lines = dict(line.split("  ", 1) for line in traces.summary().splitlines())
    assert lines["episodes"].strip() == "36"
    assert lines["trajectories"].strip() == str(len(plain))
    assert lines["steps"].strip() == f"{sum(map(len, plain)):,}"
    assert f"not ended {sum(each.episode.ended_by is None for each in plain)}" in lines["ended by"]
    assert traces.stats == pytest.approx(rollout_stats(traces))
    size = sum(file.stat().st_size for path in directories for file in path.glob("*.arrow"))
    assert 0 < traces.order.sizes.sum() <= size
    assert "0 bytes" in traces[:0].summary()
    assert traces[:0].stats == {"n_traj": 0}


def test_pandas(directories: list[Path]) -> None:
    pandas = pytest.importorskip("pandas")
    traces, plain = all_of(directories)
    view, plain = traces[::4], plain[::4]
    frame = view.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["length"].tolist() == list(map(len, plain))
    steps = view.to_pandas(steps=True)
    assert len(steps) == view.total_steps
    assert steps["step"].tolist() == [t + e.episode.start_step for e in plain for t in range(len(e))]
    assert steps["obs['t']"].tolist() == [t for e in plain for t in e.obs.get("t")[:-1]]
    assert steps["rews"].tolist() == [r for e in plain for r in e.rews]
    assert int(steps["terminated"].sum()) == sum(e.terminated for e in plain)


def test_pandas_may_be_missing(directories: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for steps in (False, True):
        with pytest.raises(MissingDependencyError, match=r"vecrollout\[pandas\]"):
            open_traces(directories).to_pandas(steps=steps)


def test_arguments_that_are_wrong(directories: list[Path]) -> None:
    traces = open_traces(directories)
    rng = np.random.default_rng(0)
    for key in ("a", 1.5, np.ones(3, bool), [[0]], [0.5]):
        with pytest.raises(ArgumentTypeError):
            traces[key]  # type: ignore[call-overload]
        with pytest.raises(ArgumentTypeError):
            traces.select(key)
    with pytest.raises(IndexError, match="trajectories"):
        traces[[0, 999]]
    with pytest.raises(OptionError, match=r"condition.*return_"):
        traces.filter(pc.field("nothing") > 1)
    with pytest.raises(OptionError, match="condition"):
        traces.filter(pc.field("length") + 1)
    with pytest.raises(ArgumentTypeError, match="condition"):
        traces.filter("length > 3")
    with pytest.raises(OptionError, match=r"column.*return_"):
        traces.sort_by("nothing")
    for fractions in ({"a": 0.5}, {"a": 2, "b": -1}, {}, {"a": float("nan")}):
        with pytest.raises(OptionError, match="fractions"):
            traces.split(fractions, rng)
    for fractions in ([0.5, 0.5], {"a": "x"}):
        with pytest.raises(ArgumentTypeError, match="fractions"):
            traces.split(fractions, rng)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="rng"):
        traces.split({"a": 1}, 0)  # type: ignore[arg-type]
    for other in (list(traces), traces[0], TrajectoryBatch.from_trajectories(traces)):
        with pytest.raises(ArgumentTypeError, match=r"others.*TraceDataset"):
            traces.concat(other)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="start"):
        traces.trim("a")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="stop"):
        traces.trim(0, 1.5)  # type: ignore[arg-type]


def test_numbers_that_no_array_holds(directories: list[Path]) -> None:
    traces = open_traces(directories)
    assert list(traces.trim(-(10**30), 10**30)) == list(traces)
    assert len(traces.trim(10**30)) == len(traces.trim(stop=-(10**30))) == 0


def _zeros(trajectory: Trajectory) -> Any:
    return np.zeros(len(trajectory))


def test_views_of_a_growing_trace(tmp_path: Path) -> None:
    """A view stays what it is; the data set itself grows."""
    writer = TraceWriter(tmp_path)
    writer.append(made(5, 3))
    writer.flush()
    traces = open_traces(tmp_path)
    view = traces[:]
    part = traces[[0]].trim(1)
    dumped = [
        pickle.dumps(each) for each in (part, part.relabel(rews=_zeros), traces.stitched(), traces.whole_episodes())
    ]
    writer.append(made(2, 4))
    writer.close()
    traces.refresh()
    assert [each.episode.id for each in traces] == [2, 5]
    assert [each.episode.id for each in view] == [5]
    assert [each.episode.id for each in part] == [5]
    with pytest.raises(ProtocolError, match="refresh"):
        part.refresh()
    for each in dumped:
        with pytest.raises(StateError, match="grown"):
            pickle.loads(each)
    assert traces.to_arrow().num_rows == 2


def test_spaces_and_metadata_of_several_writers(tmp_path: Path) -> None:
    gym = pytest.importorskip("gymnasium")
    spaces = gym.spaces.Discrete(3), gym.spaces.Discrete(2)
    others = gym.spaces.Discrete(4), gym.spaces.Discrete(2)
    for number, its in enumerate((spaces, spaces, None, others)):
        with TraceWriter(tmp_path / str(number), spaces=its, env_spec="E", metadata={"n": number, "of": 3}) as writer:
            writer.append(Trajectory(np.zeros(2, int), np.zeros(1, int), None, True))
    paths = [tmp_path / str(number) for number in range(4)]
    traces = open_traces(paths[:3])
    assert (traces.observation_space, traces.action_space) == spaces
    assert traces.env_spec == "E"
    assert traces.metadata == {"of": 3}
    assert traces[:1].metadata == {"n": 0, "of": 3}
    unknown = open_traces(paths[2])
    assert unknown.observation_space is None
    everything = open_traces(paths)
    assert everything.action_space == spaces[1]
    with pytest.raises(SpaceMismatchError, match="observation_space"):
        _ = everything.observation_space
    assert everything[3:].observation_space == others[0]
    (tmp_path / "empty").mkdir()
    empty = open_traces(tmp_path / "empty")
    assert (empty.observation_space, empty.env_spec, empty.metadata, len(empty[:])) == (None, None, {}, 0)


@pytest.mark.parametrize("compression", ["zstd", None])
def test_the_table_of_a_damaged_trace_of_images(compression: Any, tmp_path: Path) -> None:
    """It reads no images, so it finds damage only where it looks; without a sound footer it reads the stream."""
    with TraceWriter(tmp_path, compression=compression) as writer:
        for number in range(3):
            frames = np.random.default_rng(number).integers(255, size=(5, 64, 64), dtype=np.uint8)
            writer.append(
                TrajectoryWithRew(frames, np.zeros(4), None, True, rews=np.ones(4), episode=Episode(id=number))
            )
            writer.flush()
    (shard,) = tmp_path.glob("*.arrow")
    content = shard.read_bytes()
    sound = open_traces(tmp_path).to_arrow()
    assert sound.column("return_").to_pylist() == [4.0] * 3
    rng = np.random.default_rng(0)
    (image,) = [content.find(frames[2, 1].tobytes())] if compression is None else [len(content) // 2]
    places = [*rng.integers(len(content), size=200).tolist(), *range(len(content) - 200, len(content)), image]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        try:
            table = open_traces(tmp_path).to_arrow()
        except DamagedTraceError:
            continue
        assert len(table) == 3
        if place >= len(content) - 200:
            assert table.equals(sound)
    damaged = bytearray(content)
    damaged[image] ^= 1
    shard.write_bytes(damaged)
    assert "mean 4," in open_traces(tmp_path).summary()
    with pytest.raises(DamagedTraceError):
        list(open_traces(tmp_path))


def test_rewards_that_are_vectors(tmp_path: Path) -> None:
    rews = np.arange(6.0).reshape(3, 2)
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.arange(4.0), np.zeros(3), None, True, rews=rews))
    traces = open_traces(tmp_path)
    assert traces.to_arrow().column("return_").to_pylist() == [None]
    assert traces.trim(1).to_arrow().column("return_").to_pylist() == [None]
    assert traces[::-1].steps()[[2, 0]].rews.tolist() == [[4.0, 5.0], [0.0, 1.0]]  # type: ignore[attr-defined]
    weighed = traces.relabel(rews=lambda each: each.rews @ np.array([1.0, 10.0]))
    assert weighed.to_arrow().column("return_").to_pylist() == [96.0]
    assert weighed.steps()[[1]].rews.tolist() == [32.0]  # type: ignore[attr-defined]
