"""Recorders hand finished trajectories to a writer some steps late; whoever looks sees no difference."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper, TraceWriter, TrajectoryWithRew, open_traces, stitch
from vecrollout.errors import ProtocolError, TraceWriteError
from vecrollout.testing import CountingEnv, EpisodeScript

STEPS = 3


def recorder(sink: Any) -> BufferingWrapper:
    venv = DummyVecEnv([lambda: CountingEnv("box", [EpisodeScript(STEPS, "terminated")])] * 2)
    return BufferingWrapper(venv, error_on_premature_reset=False, sink=sink)


def step(venv: BufferingWrapper, times: int) -> None:
    for _ in range(times):
        venv.step(np.zeros(2, dtype=np.int64))
    assert venv.stepped == venv.held + venv.popped + venv.sunk + venv.dropped


def ended_by(directory: Path) -> list[str | None]:
    return [each.episode.ended_by for each in open_traces(directory)]


def test_a_flush_takes_all_that_has_finished(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        for flushed in range(1, 5):
            step(venv, STEPS)
            writer.flush()
            assert ended_by(tmp_path) == ["terminated"] * 2 * flushed
            assert (venv.sunk, venv.held) == (2 * STEPS * flushed, 0)


def test_close_takes_running_episodes_too(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        step(venv, 2 * STEPS + 1)
    assert sorted(map(str, ended_by(tmp_path))) == ["closed"] * 2 + ["terminated"] * 4
    assert (venv.sunk, venv.held) == (2 * (2 * STEPS + 1), 0)


def test_what_is_popped_is_what_runs(tmp_path: Path) -> None:
    """Finished episodes are the writer's; they are not popped, however late it gets them."""
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        step(venv, STEPS + 1)
        assert venv.pop_finished_trajectories() == ([], [])
        trajectories, lengths = venv.pop_trajectories()
        assert [len(each) for each in trajectories] == [1, 1]
        assert lengths == []
        step(venv, 1)
        assert len(venv.pop_transitions()) == 2
        assert (venv.sunk, venv.popped) == (2 * STEPS, 4)
    assert ended_by(tmp_path) == ["terminated"] * 2


def test_what_is_held_can_be_popped(tmp_path: Path) -> None:
    """What is the writer's does not count as held, so that whoever asks first has something to pop."""
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        for _ in range(STEPS * 4):
            venv.step(np.zeros(2, dtype=np.int64))
            assert venv.sunk + venv.held == venv.stepped
        assert (venv.held, venv.sunk) == (0, 2 * STEPS * 4)


class Flushing(TraceWriter):
    """Makes each trajectory durable as it comes."""

    def append(self, trajectory: Any, /, **options: Any) -> None:
        super().append(trajectory, **options)
        self.flush()


def test_a_writer_that_flushes_while_it_takes_a_trajectory(tmp_path: Path) -> None:
    """Each comes once, also where several have finished."""
    with Flushing(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        step(venv, 100 * STEPS)
    assert (venv.sunk, venv.held) == (200 * STEPS, 0)
    assert len({each.episode.id for each in open_traces(tmp_path)}) == len(open_traces(tmp_path)) == 200


class Counting(TraceWriter):
    """Knows how many trajectories it has taken."""

    taken = 0

    def append(self, trajectory: Any, /, **options: Any) -> None:
        super().append(trajectory, **options)
        self.taken += 1


def test_no_more_than_the_staged_steps_are_late(tmp_path: Path) -> None:
    writer = Counting(tmp_path)
    venv = recorder(writer)
    venv.reset()
    for _ in range(1000 * STEPS):
        venv.step(np.zeros(2, dtype=np.int64))
    assert 700 * 2 < writer.taken < 1000 * 2
    writer.close()
    assert venv.sunk == 1000 * 2 * STEPS
    assert len(open_traces(tmp_path)) == 2000


class Broken(TraceWriter):
    """Refuses everything from some time on."""

    is_broken = False

    def append(self, trajectory: Any, /, **options: Any) -> None:
        if self.is_broken:
            raise TraceWriteError("of the test")
        super().append(trajectory, **options)


def test_nothing_is_lost_where_the_writer_fails(tmp_path: Path) -> None:
    writer = Broken(tmp_path)
    venv = recorder(writer)
    venv.reset()
    step(venv, STEPS)
    writer.flush()
    writer.is_broken = True
    with pytest.raises(TraceWriteError, match="of the test"):
        step(venv, 1000)
    assert venv.stepped == venv.held + venv.sunk
    trajectories: list[TrajectoryWithRew] = venv.pop_trajectories()[0]
    assert sum(map(len, trajectories)) == venv.popped == venv.stepped - 2 * STEPS
    assert all((np.asarray(each.obs)[:, 0] == np.arange(len(each) + 1)).all() for each in trajectories)
    writer.is_broken = False
    venv.reset()
    step(venv, STEPS)
    writer.close()
    assert len(open_traces(tmp_path)) == 4


def test_a_flush_from_another_thread_leaves_the_steps_alone(tmp_path: Path) -> None:
    """It may come in the middle of a step; what has finished is handed over with one of the next."""
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        is_over = threading.Event()

        def flush() -> None:
            while not is_over.is_set():
                writer.flush()

        thread = threading.Thread(target=flush)
        thread.start()
        step(venv, 200 * STEPS)
        is_over.set()
        thread.join()
        assert venv.stepped == venv.held + venv.sunk == 2 * 200 * STEPS
    read = list(open_traces(tmp_path))
    assert sorted(each.episode.id for each in read if each.episode.id is not None) == list(range(400))
    assert all((np.asarray(each.obs)[:, 0] == np.arange(STEPS + 1)).all() for each in read)


def test_a_flush_from_another_thread_while_nobody_steps(tmp_path: Path) -> None:
    """What has finished is durable when it returns."""
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        venv.reset()
        step(venv, STEPS)
        thread = threading.Thread(target=writer.flush)
        thread.start()
        thread.join()
        assert ended_by(tmp_path) == ["terminated"] * 2


def test_two_recorders_that_hand_over_in_turns(tmp_path: Path) -> None:
    """Each fragment is of the episode that it goes on with."""
    venvs = []
    with TraceWriter(tmp_path) as writer:
        for first in (0, 100):
            venv = DummyVecEnv([lambda first=first: CountingEnv("box", [EpisodeScript(9)], first=first)])
            options: Any = {"sink": writer, "max_transitions": 2, "on_full": "hand_over"}
            venvs.append(BufferingWrapper(venv, **options))
            venvs[-1].reset()
        for _ in range(9):
            for venv in venvs:
                venv.step(np.zeros(1, np.int64))
    traces: Any = open_traces(tmp_path)
    episodes = [stitch(traces[number] for number in numbers) for numbers in traces.episodes()]
    assert [each.obs[:, 0].tolist() for each in episodes] == [list(range(10)), list(range(100, 110))]


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Threads that take turns at every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("often_switching")
@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("max_transitions", [None, 20])
def test_a_close_from_another_thread(max_transitions: int | None, looks: bool, tmp_path: Path) -> None:
    """Every step is in the trace or still held, once, whatever the recorder was doing when it came."""
    for number in range(25):
        directory = tmp_path / str(number)
        writer = TraceWriter(directory)
        venv = BufferingWrapper(
            DummyVecEnv([lambda: CountingEnv("box", [EpisodeScript(7)], stride=10)] * 2),
            error_on_premature_reset=False,
            sink=writer,
            max_transitions=max_transitions,
            on_full="hand_over" if max_transitions else "refuse",
        )
        venv.reset()
        is_over = threading.Event()

        def steps(venv: BufferingWrapper = venv, is_over: threading.Event = is_over) -> None:
            with suppress(ProtocolError):  # the writer is closed
                while not is_over.is_set():
                    venv.step(np.zeros(2, dtype=np.int64))
                    if looks:
                        assert venv.held >= 0

        thread = threading.Thread(target=steps)
        thread.start()
        time.sleep(0.001 * (number % 10))
        writer.close()
        is_over.set()
        thread.join()
        assert venv.stepped == venv.held + venv.sunk
        trajectories: list[Any] = [*open_traces(directory), *venv.pop_trajectories()[0]]
        for env in range(2):
            own = [each for each in trajectories if each.episode.env_index == env]
            for each in own:
                counts = np.append(each.rews[:1] - 1, each.rews) - 0.5  # they go on, where observations wrap around
                np.testing.assert_array_equal(each.obs[:, 0], counts % 256)
                assert [info["t"] for info in each.infos] == (counts[1:] % 10).tolist()
            after = [rew - 0.5 for each in own for rew in each.rews.tolist()]
            assert after == [10 * (k // 7) + k % 7 + 1 for k in range(venv.stepped // 2)]
