"""The writer: its thread, its limits, its errors, and what a process that is killed leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traces import assert_same_trajectory, of_space, write

from vecrollout import (
    Episode,
    TraceWriter,
    Trajectory,
    TrajectoryBatch,
    TrajectoryWithRew,
    open_traces,
    repair_traces,
    verify_traces,
)
from vecrollout.errors import (
    ArgumentTypeError,
    DtypeError,
    OptionError,
    ProtocolError,
    StructureError,
    TraceWriteError,
)
from vecrollout.storage.writing.shards import Shards
from vecrollout.testing import SPACES, assert_same

CHILD = """
import sys
from traces import of_space
from vecrollout import TraceWriter

directory, writer_number, shard_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with TraceWriter(directory, max_shard_bytes=shard_bytes, metadata={"writer": writer_number}) as writer:
    for number in range(int(sys.argv[4])):
        writer.append(of_space("dict", 1 + number % 50, number, seed=writer_number))
        if number % 7 == 0:
            writer.flush()
            print(number + 1, flush=True)
"""


def start(directory: Path, number: int, shard_bytes: int, episodes: int) -> subprocess.Popen[str]:
    arguments = [str(directory), str(number), str(shard_bytes), str(episodes)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_two_processes_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, number, 4096, 60) for number in range(2)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    read = list(open_traces(tmp_path))
    assert len(read) == 120
    for half in (read[:60], read[60:]):
        assert [each.episode.id for each in half] == list(range(60))
        assert len({each.episode.seed for each in half}) == 1
    assert verify_traces(tmp_path).ok


def test_a_reader_sees_what_was_flushed_and_refreshes(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, max_shard_bytes=8192) as writer:
        writer.append(of_space("box", 3, 0))
        traces = open_traces(tmp_path)
        assert len(traces) == 0
        for number in range(1, 40):
            writer.append(of_space("box", 3, number))
            writer.flush()
            traces.refresh()
            assert len(traces) == number + 1
            assert_same_trajectory(traces[-1], of_space("box", 3, number))
    assert len(traces) == 40
    traces.refresh()
    assert [each.episode.id for each in traces] == list(range(40))


def test_appending_to_a_directory_that_holds_traces(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, [of_space("box", 2, number)] if number else [of_space("text", 2, number)])
    read = list(open_traces(tmp_path))
    assert [each.episode.id for each in read] == [0, 1, 2]


def test_order_is_by_the_time_of_start(tmp_path: Path) -> None:
    """Episodes come in the order of their ends; a second recording's come behind, though its ids begin anew."""
    write(tmp_path, [of_space("box", 1, number) for number in (2, 0, 1)] + [of_space("box", 1, n) for n in (1, 0)])
    assert [each.episode.id for each in open_traces(tmp_path)] == [0, 1, 2, 0, 1]


def test_fragments_of_text_share_its_number_too(tmp_path: Path) -> None:
    """Where they meet, text of another width says the same."""
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.array(["a", "b"]), np.zeros(1), None, False, episode=Episode(0)))
        writer.append(Trajectory(np.array(["b", "long"]), np.zeros(1), None, True, episode=Episode(0, start_step=1)))
    assert open_traces(tmp_path).episodes() == [range(2)]


def test_fragments_of_an_episode_share_its_number(tmp_path: Path) -> None:
    parts = [of_space("box", 2, at, terminal=False, episode=Episode(id=3, start_step=at)) for at in (0, 2, 4)]
    write(tmp_path, [parts[0], of_space("box", 1, 4), parts[1], parts[2]])
    read = open_traces(tmp_path)
    assert [(each.episode.id, each.episode.start_step) for each in read] == [(3, 0), (3, 2), (3, 4), (4, 0)]


def test_what_does_not_fit_is_refused_at_once_and_does_no_harm(tmp_path: Path) -> None:
    good = of_space("box", 2)
    masked = np.ma.masked_array(np.zeros((3, 4)), mask=True)
    bad: list[tuple[Any, type[Exception]]] = [
        (of_space("dict", 2), StructureError),
        (TrajectoryWithRew({"a": good.obs}, good.acts, None, True, rews=np.zeros(2)), StructureError),
        (TrajectoryWithRew(masked, good.acts, None, True, rews=np.zeros(2)), DtypeError),
        (Trajectory(good.obs, good.acts, None, True), ArgumentTypeError),
    ]
    with TraceWriter(tmp_path) as writer:
        writer.append(good)
        for trajectory, error in bad:
            with pytest.raises(error):
                writer.append(trajectory)
        writer.append(good)
    assert len(open_traces(tmp_path)) == 2


def test_another_shape_or_dtype_begins_another_shard(tmp_path: Path) -> None:
    """A recording goes on where an environment's observations or actions change."""
    wide = of_space("box", 3, 1)
    altered = [
        of_space("box", 2, 0),
        replace(wide, obs=np.asarray(wide.obs).astype(np.float64)),
        replace(wide, obs=np.zeros((4, 7), np.float32)),
        replace(wide, acts=np.arange(3, dtype=np.int8)),
        of_space("box", 4, 4),
    ]
    altered = [replace(each, episode=Episode(i)) for i, each in enumerate(altered)]
    for at_once in (False, True):
        directory = tmp_path / str(at_once)
        with TraceWriter(directory) as writer:
            if at_once:
                writer.extend(altered)
            else:
                for each in altered:
                    writer.append(each)
        read = list(open_traces(directory))
        for expected, got in zip(altered, read, strict=True):
            assert_same_trajectory(got, expected)
        assert len(list(directory.glob("*.arrow"))) == len(altered)
        assert verify_traces(directory).ok


BATCHES: dict[str, Callable[[list[TrajectoryWithRew]], Any]] = {
    "batch": TrajectoryBatch.from_trajectories,
    "list": list,
    "iterator": iter,
}


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("name", ["box", "dict", "text", "image"])
def test_several_at_once(name: str, make: Any, tmp_path: Path) -> None:
    written = [of_space(name, 1 + number, number) for number in range(6)]
    with TraceWriter(tmp_path, episode_metadata=lambda each: {"steps": len(each)}) as writer:
        writer.extend(make(written[:2]))
        writer.append(written[2])
        writer.extend(make(written[3:]))
        writer.extend([])
    traces = open_traces(tmp_path)
    for number, (actual, expected) in enumerate(zip(traces, written, strict=True)):
        # In a batch, text is as wide as its longest.
        same_dtype = np.asarray(actual.acts).dtype == np.asarray(expected.acts).dtype
        if name != "text" or same_dtype:
            assert_same_trajectory(actual, expected)
        assert traces.metadata_of(number) == {"steps": number + 1}


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_of_several_all_are_taken_or_none(make: Any, tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.extend(make([of_space("box", 2, 0)]))
        others: list[tuple[Any, type[Exception]]] = [
            (of_space("dict", 2, 1), StructureError),
            (None, ArgumentTypeError),
        ]
        for other, error in others:
            with pytest.raises(error):
                writer.extend(make([of_space("box", 2, 1), other]))
        wrong = of_space("box", 2, 2, episode=Episode(2**63))
        with pytest.raises(OptionError):
            writer.extend(make([of_space("box", 2, 1), wrong]))
    assert len(open_traces(tmp_path)) == 1


def test_more_at_once_than_a_batch_holds(tmp_path: Path) -> None:
    obs, acts, steps = np.arange(60_000.0), np.zeros(40_000), 2
    batch = TrajectoryBatch.from_arrays(obs, acts, np.ones(40_000), lengths=[steps] * 20_000)
    with TraceWriter(tmp_path) as writer:
        writer.extend(batch)
    traces = open_traces(tmp_path)
    assert len(traces) == 20_000
    np.testing.assert_array_equal(np.concatenate([each.obs for each in traces]), obs)


def test_infos_of_some_only(tmp_path: Path) -> None:
    """Whether infos were kept comes back for each trajectory, also of those that are written in one batch."""
    infos = [None, [{"a": 1}] * 3, None, [{}] * 3]
    written = [of_space("box", 3, number, infos=each) for number, each in enumerate(infos)]
    with TraceWriter(tmp_path) as writer:
        writer.extend(TrajectoryBatch.from_trajectories(written[:1]))
        writer.extend(written[1:])
    for actual, expected in zip(open_traces(tmp_path), written, strict=True):
        assert_same_trajectory(actual, expected)


def test_text_that_would_take_too_much_memory_to_read_is_refused(tmp_path: Path) -> None:
    wide = np.zeros(70_000, "U1000")
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.zeros(2, "U5"), np.zeros(1), None, True))
        with pytest.raises(DtypeError, match=r"obs: expected text of at most .* dtype object"):
            writer.append(Trajectory(wide, np.zeros(len(wide) - 1), None, True))


def test_repr_is_one_line(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        assert repr(writer) == f"<TraceWriter {writer.name} into {str(tmp_path)!r}, open>"
    assert repr(writer).endswith("closed>")


def objects(*values: Any) -> Any:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def nested() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    return loop


@pytest.mark.parametrize(
    "bad",
    [
        objects(1, {1, 2}),
        objects(1, object()),
        objects([], nested()),
        objects(nested(), nested()),
        objects(None, {frozenset(): 1}),
        objects(1, 10**5000),
        np.array([[1, 2], [3, object()]], object),
    ],
)
def test_objects_that_cannot_be_stored_are_refused_at_once(bad: Any, tmp_path: Path) -> None:
    good = TrajectoryWithRew(np.full(bad.shape, None), np.full(bad.shape, None)[1:], None, True, rews=np.ones(1))
    with TraceWriter(tmp_path) as writer:
        for _ in range(2):
            with pytest.raises(DtypeError, match="obs: expected objects of plain data and arrays"):
                writer.append(replace(good, obs=bad))
            with pytest.raises(DtypeError, match="acts: expected objects of plain data and arrays"):
                writer.append(replace(good, acts=bad[1:]))
            writer.append(good)
    assert len(open_traces(tmp_path)) == 2


OUT_OF_ORDER = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (np.zeros(2, [("a", object), ("b", float)]), DtypeError),
        (np.zeros(2, OUT_OF_ORDER), DtypeError),
        ({frozenset([1]): np.zeros(2)}, StructureError),
        ({"arm": {(1, frozenset()): np.zeros(2)}}, StructureError),
        ({"\ud800": np.zeros(2)}, StructureError),
    ],
)
def test_a_first_trajectory_that_no_shard_can_hold_is_refused_at_once(bad: Any, error: Any, tmp_path: Path) -> None:
    good = Trajectory(np.zeros(2), np.zeros(1), None, True)
    with TraceWriter(tmp_path) as writer:
        with pytest.raises(error, match=r"obs.*: expected"):
            writer.append(Trajectory(bad, np.zeros(1), None, True))
        writer.append(good)
    assert len(open_traces(tmp_path)) == 1


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy has had it since 2.0")
def test_text_of_any_length_is_refused_at_once(tmp_path: Path) -> None:
    texts = np.array(["a", "bc"], np.dtypes.StringDType())
    with TraceWriter(tmp_path) as writer:
        with pytest.raises(DtypeError, match="obs: expected a dtype that can be stored"):
            writer.append(Trajectory(texts, np.zeros(1), None, True))
        writer.append(Trajectory(texts.astype("U2"), np.zeros(1), None, True))
    assert len(open_traces(tmp_path)) == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"ended_by": "exploded"}, OptionError),
        ({"ended_by": ["closed"]}, ArgumentTypeError),
        ({"env_index": 2**31}, OptionError),
        ({"env_index": 1.5}, ArgumentTypeError),
        ({"id": 2**63}, OptionError),
        ({"id": "7"}, ArgumentTypeError),
        ({"start_step": -1}, OptionError),
        ({"start_step": 2**63}, OptionError),
        ({"start_step": 2**63 - 2}, OptionError),
        ({"start_step": None}, ArgumentTypeError),
        ({"start_step": np.float64(1)}, ArgumentTypeError),
        ({"seed": 0.5}, ArgumentTypeError),
        ({"seed": 10**5000}, OptionError),
        ({"reset_info": [1]}, ArgumentTypeError),
        ({"recording": 7}, ArgumentTypeError),
    ],
)
def test_an_identity_that_cannot_be_written_is_refused_at_once(fields: Any, error: Any, tmp_path: Path) -> None:
    good = of_space("box", 2)
    with TraceWriter(tmp_path) as writer:
        writer.append(good)
        with pytest.raises(error, match="episode"):
            writer.append(of_space("box", 2, episode=Episode(**{"id": 1, **fields})))
        writer.append(of_space("box", 2, 1))
    assert [each.episode.id for each in open_traces(tmp_path)] == [0, 1]


def test_the_largest_identity_comes_back(tmp_path: Path) -> None:
    largest = Episode(2**63 - 1, 2**31 - 1, 2**63 - 3, 2**128, {"a": 1}, "closed")
    numbers = Episode(np.int64(3), np.int32(2), np.uint8(1), np.uint64(2**64 - 1))  # type: ignore[arg-type]
    written = [of_space("box", 2, episode=each) for each in (numbers, largest)]
    write(tmp_path, written)
    assert [each.episode for each in open_traces(tmp_path)] == [each.episode for each in written]
    assert verify_traces(tmp_path).ok


def test_arrays_that_can_be_written_to_are_copied(tmp_path: Path) -> None:
    trajectory = of_space("box", 4)
    expected = of_space("box", 4)
    with TraceWriter(tmp_path) as writer:
        writer.append(trajectory)
        trajectory.obs[:] = 7  # type: ignore[index]
        trajectory.rews[:] = 7
    assert_same_trajectory(open_traces(tmp_path)[0], expected)


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the thread held up, append waits."""
    gate = threading.Event()
    write_batch = Shards.write

    def slow(*args: Any) -> None:
        gate.wait()
        write_batch(*args)

    monkeypatch.setattr(Shards, "write", slow)
    appended = []
    with TraceWriter(tmp_path, queue_bytes=20_000) as writer:

        def produce() -> None:
            for number in range(100):
                writer.append(of_space("image", 20, number))
                appended.append(number)

        thread = threading.Thread(target=produce)
        thread.start()
        time.sleep(0.3)
        assert 0 < len(appended) < 10
        gate.set()
        thread.join()
    assert len(open_traces(tmp_path)) == 100


def test_one_trajectory_larger_than_the_queue(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, queue_bytes=100) as writer:
        for number in range(5):
            writer.append(of_space("image", 20, number))
    assert len(open_traces(tmp_path)) == 5


@pytest.mark.parametrize("call", ["append", "flush", "close"])
def test_an_error_of_the_thread_names_what_was_lost(call: str, tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path)
    writer.append(of_space("box", 3, 0))
    writer.flush()

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    patch = pytest.MonkeyPatch()
    patch.setattr(Shards, "write", fails)
    writer.append(of_space("box", 3, 1))
    writer.append(of_space("box", 4, 2))
    if call == "append":
        with pytest.raises(TraceWriteError):
            writer.flush()
    calls: dict[str, Callable[[], None]] = {
        "append": lambda: writer.append(of_space("box", 3, 3)),
        "flush": writer.flush,
        "close": writer.close,
    }
    with pytest.raises(
        TraceWriteError, match=r"No space left.*lost are 2 trajectories of 2 episodes from 1 to 2 \(7 steps"
    ):
        calls[call]()
    if call != "close":
        with pytest.raises(TraceWriteError):
            writer.close()
    writer.close()
    patch.undo()
    assert len(open_traces(tmp_path)) == 1
    repair_traces(tmp_path)
    assert_same_trajectory(open_traces(tmp_path)[0], of_space("box", 3, 0))


def test_a_closed_writer(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "new" / "one")
    writer.close()
    writer.close()
    assert list((tmp_path / "new" / "one").iterdir()) == []
    for call in (writer.flush, lambda: writer.append(of_space("box", 1))):
        with pytest.raises(ProtocolError, match="closed"):
            call()


def test_closes_at_exit(tmp_path: Path) -> None:
    code = f"""
from traces import of_space
from vecrollout import TraceWriter
writer = TraceWriter({str(tmp_path)!r})
writer.append(of_space("box", 3))
raise SystemExit(3)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 3
    assert len(open_traces(tmp_path)) == 1
    assert repair_traces(tmp_path).changes == ()


@pytest.mark.parametrize("part", ["obs", "acts", "obs['camera']"])
def test_a_mask_is_not_lost_in_silence(part: str, tmp_path: Path) -> None:
    masked = np.ma.MaskedArray(np.arange(4.0), [0, 1, 0, 0])
    obs: Any = {"obs": masked, "acts": np.zeros(4)}.get(part, {"camera": masked})
    acts = masked[:3] if part == "acts" else np.zeros(3)
    with TraceWriter(tmp_path) as writer:
        for _ in range(2):
            with pytest.raises(DtypeError, match=re.escape(f"{part}: expected an array, got one with a mask")):
                writer.append(Trajectory(obs, acts, None, True))
            # Also where the trace's columns are known.
            plain = {"camera": np.zeros(4)} if isinstance(obs, dict) else np.zeros(4)
            writer.append(Trajectory(plain, np.zeros(3), None, True))
    assert len(open_traces(tmp_path)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_spec": {"id": "CartPole-v1"}}, "env_spec: expected text"),
        ({"metadata": ["a", "b"]}, "metadata: expected a dict, got list"),
        ({"spaces": (None,)}, "spaces: expected the observation space and the action space"),
        ({"spaces": 2}, "spaces: expected the observation space and the action space"),
    ],
)
def test_what_is_said_of_the_trace_is_checked_at_once(options: Any, message: str, tmp_path: Path) -> None:
    """Not by the thread, which would lose trajectories."""
    with pytest.raises(ArgumentTypeError, match=message):
        TraceWriter(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_only_trajectories_are_taken(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer, pytest.raises(ArgumentTypeError, match="expected a Trajectory, got dict"):
        writer.append({"obs": np.zeros(2)})  # type: ignore[arg-type]


def test_options_are_checked(tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{"compression": "gzip"}, {"max_shard_bytes": 1}, {"queue_bytes": 0}]
    for each in options:
        with pytest.raises(OptionError, match=next(iter(each))):
            TraceWriter(tmp_path, **each)
    kinds: list[dict[str, Any]] = [
        {"max_shard_bytes": "1GB"},
        {"queue_bytes": 1e6},
        {"metadata": ["run", 7]},
        {"episode_metadata": {"run": 7}},
        {"env_spec": object()},
        {"spaces": SPACES["box"]},
        {"spaces": (SPACES["box"], "Discrete(2)")},
    ]
    for each in kinds:
        with pytest.raises(ArgumentTypeError, match=next(iter(each))):
            TraceWriter(tmp_path / "none", **each)
    assert not (tmp_path / "none").exists()


def test_what_is_no_trajectory_is_refused(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        for thing in (None, [1, 2], {"obs": [1, 2]}):
            with pytest.raises(ArgumentTypeError, match=f"expected a Trajectory, got {type(thing).__name__}"):
                writer.append(thing)  # type: ignore[arg-type]
        writer.append(of_space("box", 3))
    assert len(open_traces(tmp_path)) == 1


def test_what_cannot_be_kept_is_counted_and_warned_of_once(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    infos = [{"keep": 1, "bad": object()}, {"loop": loop}, {"bad": {1, 2}, "keep": 2}]
    writer = TraceWriter(tmp_path)
    writer.append(of_space("box", 3, infos=infos))
    with pytest.warns(UserWarning, match="'bad', 'loop'"):
        writer.flush()
    writer.append(of_space("box", 3, 1, infos=infos))
    writer.close()
    assert writer.dropped_infos == {"bad": 4, "loop": 2}
    assert_same([dict(info) for info in open_traces(tmp_path)[1].infos], [{"keep": 1}, {}, {"keep": 2}])  # type: ignore[union-attr]


def test_metadata_is_kept_as_it_was_when_it_was_given(tmp_path: Path) -> None:
    metadata: dict[str, Any] = {}
    with TraceWriter(tmp_path) as writer:
        for number in range(3):
            metadata["number"] = number
            writer.append(of_space("box", 3, number), metadata=metadata)
        with pytest.raises(ArgumentTypeError, match="metadata: expected a dict, got list"):
            writer.append(of_space("box", 3, 3), metadata=[1])  # type: ignore[arg-type]
    traces = open_traces(tmp_path)
    assert [traces.metadata_of(number) for number in range(len(traces))] == [{"number": number} for number in range(3)]


def test_infos_that_are_no_dicts_do_not_end_the_writer(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="an info that is no dict"), TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 2, infos=np.empty(2, object)))
    assert_same(list(open_traces(tmp_path)[0].infos), [{}, {}])  # type: ignore[arg-type]


def test_threads_that_append_to_one_writer(tmp_path: Path) -> None:
    """Each of their episodes has a number of its own, also where a thread stops in the middle of counting."""

    class Slow(int):
        def __ge__(self, other: float) -> bool:
            time.sleep(0.001)
            return int(self) >= other

    def append() -> None:
        for number in range(20):
            episode = Episode(number, start_step=Slow(0), ended_by="terminated")
            writer.append(Trajectory(np.zeros(2), np.zeros(1), None, True, episode=episode))

    with TraceWriter(tmp_path) as writer:
        threads = [threading.Thread(target=append) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(numbers) for numbers in open_traces(tmp_path).episodes()] == [1] * 3 * 20
