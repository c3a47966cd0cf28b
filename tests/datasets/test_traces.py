"""A directory of traces as a sequence."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from vecrollout import (
    Episode,
    TraceWriter,
    Trajectory,
    TrajectoryWithRew,
    open_traces,
    rollout_stats,
    scan_recorded_traces,
)
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError
from vecrollout.testing import assert_same

# With as few files open as some systems allow, and views of all that is read.
READS_ALL = """
import resource, sys
from vecrollout import open_traces

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
traces = open_traces(sys.argv[1])
held = [trajectory.rews for trajectory in traces]
held += [traces[number].rews for number in range(0, len(traces), 50)]
assert all((each == 1).all() for each in held)
print(len(traces), len(held))
"""


def counting(steps: int, number: int) -> TrajectoryWithRew:
    obs = {"t": np.arange(steps + 1), "x": np.zeros((steps + 1, 2), np.float32)}
    return TrajectoryWithRew(obs, np.arange(steps), None, True, rews=np.ones(steps), episode=Episode(id=number))


def lengths(trajectories: list[Trajectory]) -> list[int]:
    """What a spawned process makes of a batch."""
    return [len(each) for each in trajectories]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with TraceWriter(tmp_path) as writer:
        for number in range(5):
            writer.append(counting(number + 1, number))
    return tmp_path


def test_is_a_sequence(directory: Path) -> None:
    traces = open_traces(directory)
    assert [len(each) for each in traces] == [1, 2, 3, 4, 5]
    assert len(traces[-1]) == 5
    assert [len(each) for each in traces[1:-1]] == [2, 3, 4]
    assert [len(each) for each in traces[::-2]] == [5, 3, 1]
    assert traces[np.int64(2)] in traces
    assert [len(each) for each in reversed(traces)] == [5, 4, 3, 2, 1]
    assert repr(traces).startswith("<TraceDataset of 5 trajectories in ")
    for number in (5, -6):
        with pytest.raises(IndexError):
            traces[number]


def test_nothing_is_read_before_it_is_asked_for(directory: Path) -> None:
    (shard,) = directory.glob("*.arrow")
    size = shard.stat().st_size
    shard.write_bytes(b"x" * size)
    assert len(open_traces(directory)) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit to set")
def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, compression=None, max_shard_bytes=4096) as writer:
        for number in range(300):
            writer.append(counting(150, number))
            writer.flush()
    assert len(list(tmp_path.glob("*.arrow"))) == 300
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "error", "-c", READS_ALL, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (result.stderr, result.stdout) == ("", "300 306\n")


def test_some_columns(directory: Path) -> None:
    traces = open_traces(directory)
    fields = traces.columns(-1, ["rews", "acts"], 1, -1)
    assert_same(fields, {"rews": np.ones(3), "acts": np.arange(1, 4)})
    assert traces.columns(0, ["infos"]) == {"infos": None}
    for names, start, stop in ((["reward"], 0, None), (["obs"], 3, 3), (["obs"], 9, None)):
        with pytest.raises(OptionError):
            traces.columns(-1, names, start, stop)


def test_batches(directory: Path) -> None:
    with TraceWriter(directory) as writer:
        writer.append(counting(9, 9))
    traces = open_traces(directory)
    batches = list(traces.batches())
    assert len(batches) == 2
    assert [trajectory for batch in batches for trajectory in batch] == list(traces)
    assert_same(batches[0].lengths, np.arange(1, 6))
    assert_same(batches[0].acts, np.concatenate([np.arange(n) for n in range(1, 6)]))
    assert [each.id for each in batches[0].episodes] == [0, 1, 2, 3, 4]


def test_the_batches_that_were_used_last_are_kept(tmp_path: Path) -> None:
    """Random reads decode each batch once, as long as all of them are small."""
    with TraceWriter(tmp_path) as writer:
        for number in range(30):
            writer.append(counting(3, number))
            writer.flush()
    traces = open_traces(tmp_path)
    for number in np.random.default_rng(0).permutation(30):
        assert traces[int(number)] == counting(3, int(number))
    (shard,) = tmp_path.glob("*.arrow")
    with shard.open("r+b") as file:  # nothing is left to decode
        file.write(bytes(shard.stat().st_size))
    for number in np.random.default_rng(1).permutation(30):
        assert traces[int(number)] == counting(3, int(number))


def test_some_steps(directory: Path) -> None:
    traces = open_traces(directory)
    part = traces.trajectory(-1, 1, -1)
    assert_same(part.acts, np.arange(1, 4))
    assert_same(part.obs.get("t"), np.arange(1, 5))
    assert (part.episode.start_step, part.terminal, part.episode.ended_by) == (1, False, None)
    assert traces.episode(4, 2) == traces.trajectory(4, 2)
    assert traces.trajectory(4, 2).terminal


def test_scan(directory: Path) -> None:
    seen: list[tuple[Any, Any, Any]] = []
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays))
    assert [(len(obs["t"]), len(acts), len(rews)) for obs, acts, rews in seen] == [(n + 1, n, n) for n in range(1, 6)]
    assert_same(seen[2][0], {"t": np.arange(4), "x": np.zeros((4, 2), np.float32)})
    seen.clear()
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays), max_episodes=2)
    assert len(seen) == 2
    with pytest.raises(OptionError):
        scan_recorded_traces(directory, print, max_episodes=-1)


def test_scan_without_rewards(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.zeros(3), np.zeros(2), None, False))
    seen: list[Any] = []
    scan_recorded_traces(tmp_path, lambda *arrays: seen.append(arrays))
    assert seen[0][2] is None


def part(number: int, start: int, stop: int, ended_by: Any = None, **fields: Any) -> TrajectoryWithRew:
    """Steps of an episode in which observation and action at step t are t, the reward t + 0.5."""
    return TrajectoryWithRew(
        {"t": np.arange(start, stop + 1)},
        np.arange(start, stop),
        None,
        ended_by in ("terminated", "truncated"),
        rews=np.arange(start, stop) + 0.5,
        episode=Episode(id=number, env_index=1, start_step=start, seed=number, ended_by=ended_by),
        **fields,
    )


# An episode in one piece, in two that meet, with a gap, without its beginning, and without its end.
PARTS = [
    part(0, 0, 4, "terminated"),
    part(1, 0, 2),
    part(1, 2, 5, "closed"),
    part(2, 0, 2),
    part(2, 3, 4, "terminated"),
    part(3, 2, 4, "terminated"),
    part(4, 0, 3),
]


@pytest.fixture(params=[False, True], ids=["everything", "filtered"])
def of_parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
    options = {"metadata": {"steps_filtered": True}} if request.param else {}
    with TraceWriter(tmp_path, **options) as writer:
        for each in PARTS:
            writer.append(each)
    return tmp_path, request.param


def test_episodes(of_parts: tuple[Path, bool]) -> None:
    directory, _ = of_parts
    traces = open_traces(directory)
    assert traces.episodes() == [range(1), range(1, 3), range(3, 5), range(5, 6), range(6, 7)]
    assert [traces.identity(number) for number in range(len(traces))] == [each.episode for each in PARTS]
    assert traces.identity(-1) == PARTS[-1].episode
    with pytest.raises(IndexError):
        traces.identity(7)
    with TraceWriter(directory) as writer:
        writer.append(PARTS[0])
    traces.refresh()
    assert traces.episodes()[5:] == [range(7, 8)]


def test_scan_joins_fragments(of_parts: tuple[Path, bool]) -> None:
    """As many observations as actions where steps are missing, which a filter can have left out at an end, too."""
    directory, is_filtered = of_parts
    seen: list[Any] = []
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays))
    steps = [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 3], [2, 3], [0, 1, 2]]
    ends = [[4], [5], [], [] if is_filtered else [4], [] if is_filtered else [3]]
    for (obs, acts, rews), each, end in zip(seen, steps, ends, strict=True):
        assert_same(obs, {"t": np.array(each + end)})
        assert_same(acts, np.array(each))
        assert_same(rews, np.array(each) + 0.5)


def test_scan_joins_fragments_without_rewards(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        for start in (0, 2):
            obs, acts = np.arange(start, start + 3), np.arange(start, start + 2)
            writer.append(Trajectory(obs, acts, None, False, episode=Episode(id=0, start_step=start)))
    seen: list[Any] = []
    scan_recorded_traces(tmp_path, lambda *arrays: seen.append(arrays))
    assert_same(seen, [(np.arange(5), np.arange(4), None)])


def test_no_traces_at_all(tmp_path: Path) -> None:
    assert open_traces(tmp_path).episodes() == []
    scan_recorded_traces(tmp_path, lambda *arrays: pytest.fail("there is nothing"))


def test_about_a_trace(tmp_path: Path) -> None:
    spaces = gym.spaces.Dict({"t": gym.spaces.Discrete(9)}), gym.spaces.Box(-1, 1, (2,))
    metadata = {"run": 3, "weights": np.arange(3.0), "of": (1, 2)}
    with TraceWriter(tmp_path, spaces=spaces, metadata=metadata, env_spec="Own-v0", compression="lz4") as writer:
        writer.append(PARTS[0])
    with pytest.warns(UserWarning, match="not one of Gymnasium's own spaces"):
        other = TraceWriter(tmp_path, spaces=(spaces[1], Unknown()), mix_spaces=True)
    with other:
        other.append(PARTS[0])
    traces = open_traces(tmp_path)
    about = traces.about(0)
    assert about.pop("versions").keys() == {"vecrollout", "numpy", "pyarrow", "gymnasium"}
    assert_same(about.pop("metadata"), metadata)
    assert about == {"writer": writer.name, "compression": "lz4", "env_spec": "Own-v0", "spaces": spaces}
    assert traces.about(1)["spaces"] == (spaces[1], None)
    assert traces.about(1)["metadata"] == {}


class Unknown(gym.Space[Any]):
    """A space of a kind that is not Gymnasium's own."""


def test_metadata_of_trajectories(tmp_path: Path) -> None:
    """What `append` is told goes before what the writer asks."""
    with TraceWriter(tmp_path, episode_metadata=lambda each: {"steps": len(each)}) as writer:
        writer.append(PARTS[0])
        writer.append(PARTS[1], metadata={"own": True})
    traces = open_traces(tmp_path)
    assert [traces.metadata_of(number) for number in range(2)] == [{"steps": 4}, {"own": True}]


def test_what_was_handed_out_can_be_altered(tmp_path: Path) -> None:
    """The next reading gives what was written, though the batch is not read again."""

    def written() -> Any:
        obs = np.empty((2, 2), object)
        obs[0, 0], obs[1, 1] = [1, [2]], {"a": np.zeros(2)}
        acts = np.empty(1, object)
        acts[0] = {"a": 1, "b": (np.zeros(1), 2.0)}
        return Trajectory({"json": obs, "t": np.arange(2)}, acts, None, True)

    with TraceWriter(tmp_path) as writer:
        writer.append(written())
    traces = open_traces(tmp_path)
    for _ in range(2):
        read: Any = traces[0]
        assert_same(read.obs.unwrap(), written().obs.unwrap())
        assert_same(read.acts, written().acts)
        read.obs.get("json")[0, 0].append(99)
        read.obs.get("json")[0, 0][1].append(99)
        read.obs.get("json")[1, 1]["a"][:] = 1
        read.acts[0]["a"] = 3


def test_objects_without_dimensions_stay_arrays(tmp_path: Path) -> None:
    obs = np.empty(2, object)
    obs[0] = obs[1] = np.array(3)
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(obs, np.zeros(1), None, True))
    assert_same(open_traces(tmp_path)[0].obs, obs)


@pytest.mark.parametrize("check", [True, False])
def test_can_be_pickled(check: bool, directory: Path) -> None:
    traces = open_traces(directory, check=check)
    before = list(traces)
    again = pickle.loads(pickle.dumps(traces))
    assert list(again) == before
    assert again.path == directory


def test_a_worker_that_was_spawned_reads_it(directory: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    traces = open_traces(directory)
    assert len(traces[0]) == 1
    loader = data.DataLoader(traces, batch_size=2, num_workers=1, multiprocessing_context="spawn", collate_fn=lengths)
    assert list(loader) == [[1, 2], [3, 4], [5]]


def test_indices_and_numbers_that_are_none(directory: Path) -> None:
    traces = open_traces(directory)
    for number in (5, -6):
        with pytest.raises(IndexError, match=f"{directory}: expected .* 5 trajectories, got {number}"):
            traces[number]
    for wrong in ("a", 1.0, None, (0, 1)):
        with pytest.raises(ArgumentTypeError, match="key: expected an integer"):
            traces[wrong]  # type: ignore[call-overload]
    for name, options in (("start", {"start": 1.5}), ("stop", {"stop": "2"})):
        with pytest.raises(ArgumentTypeError, match=name):
            traces.trajectory(0, **options)  # type: ignore[arg-type]
    assert len(traces[np.int64(4)]) == 5


def test_scan_refuses_what_it_cannot_use(directory: Path) -> None:
    for wrong in (None, 5):
        with pytest.raises(ArgumentTypeError, match="episode_cb"):
            scan_recorded_traces(directory, wrong)  # type: ignore[arg-type]
    for wrong_number in ("2", 1.5):
        with pytest.raises(ArgumentTypeError, match="max_episodes"):
            scan_recorded_traces(directory, print, wrong_number)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="max_episodes: expected at least 0, got -1"):
        scan_recorded_traces(directory, print, -1)


@pytest.mark.parametrize("other", ["notes.txt", "20260101T000000", "openaigym.trace.0.1.manifest.json"])
def test_a_directory_of_something_else(other: str, tmp_path: Path) -> None:
    """It may be the wrong one, or traces are yet to come."""
    (tmp_path / other).touch()
    with pytest.warns(UserWarning, match=f"{tmp_path}: expected the files of traces, got 1 others.*{other}"):
        traces = open_traces(tmp_path)
    assert len(traces) == 0
    with TraceWriter(tmp_path) as writer:
        writer.append(counting(3, 0))
    traces.refresh()
    assert len(traces) == 1


def test_a_trace_without_episodes_brings_no_warning(tmp_path: Path) -> None:
    (tmp_path / ".20260101T000000.000000000Z-0123456789abcdef.journal.01234567.tmp").touch()
    assert len(open_traces(tmp_path)) == 0
    TraceWriter(tmp_path).close()
    assert len(open_traces(tmp_path)) == 0


def part(id_: int, start: int, steps: int, reward: float, *, ended: bool) -> TrajectoryWithRew:
    obs = np.arange(start, start + steps + 1)
    episode = Episode(id=id_, recording="r", start_step=start, ended_by="terminated" if ended else None)
    return TrajectoryWithRew(obs, obs[:-1], None, ended, rews=np.full(steps, float(reward)), episode=episode)


def test_statistics_count_whole_episodes(tmp_path: Path) -> None:
    parts = [
        part(0, 0, 2, 1, ended=True),
        part(1, 0, 3, 1, ended=False),
        part(1, 3, 1, 1, ended=True),
        part(2, 5, 7, 9, ended=True),  # without its start
        part(3, 0, 7, 9, ended=False),  # without its end
        part(4, 0, 7, 9, ended=False),  # with a gap
        part(4, 8, 7, 9, ended=True),
    ]
    with TraceWriter(tmp_path) as writer:
        for each in parts:
            writer.append(each)
    traces = open_traces(tmp_path)
    assert [len(each) for each in traces.whole_episodes()] == [2, 4]
    stats = rollout_stats(traces)
    assert stats["n_traj"] == 2
    assert (stats["return_min"], stats["return_max"], stats["len_mean"]) == (2, 4, 3)
    assert rollout_stats(traces, fragments=False) == stats
    assert rollout_stats(traces, fragments=True) == rollout_stats(parts)
    assert rollout_stats(parts)["n_traj"] == len(parts)


def test_statistics_of_fragments_alone(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(part(0, 0, 2, 1, ended=False))
    with pytest.raises(ShapeError, match="at least one whole episode, got 1 fragments; pass fragments=True"):
        rollout_stats(open_traces(tmp_path))
    with pytest.raises(OptionError, match="fragments: expected True or None for a list"):
        rollout_stats([part(0, 0, 2, 1, ended=False)], fragments=False)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies(directory: Path, again: Any) -> None:
    traces = open_traces(directory)
    (batch,) = traces.batches()
    for value in (traces[0], traces[0].episode, batch, batch.transitions(), traces[0].obs, batch.obs):
        assert again(value) == value
    assert [each.episode for each in again(batch)] == [each.episode for each in batch]
    assert list(again(traces)) == list(traces)
