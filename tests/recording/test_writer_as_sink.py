"""Recorders whose sink is a `TraceWriter`, which gathers trajectories in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import assert_recorded, run
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper, TraceWriter, open_traces, stitch
from vecrollout.errors import ProtocolError, TraceWriteError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario

STEPS = 3


def recorder(sink: Any) -> BufferingWrapper:
    venv = DummyVecEnv([lambda: CountingEnv("box", [EpisodeScript(STEPS, "terminated")])] * 2)
    recording = BufferingWrapper(venv, error_on_premature_reset=False, sink=sink)
    recording.reset()
    return recording


def step(venv: BufferingWrapper, times: int) -> None:
    for _ in range(times):
        venv.step(np.zeros(2, dtype=np.int64))
        assert venv.stepped == venv.held + venv.popped + venv.delivered + venv.dropped


def ended_by(directory: Path) -> list[str | None]:
    return [each.episode.ended_by for each in open_traces(directory)]


def test_a_flush_writes_all_that_has_finished(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        for flushed in range(1, 5):
            step(venv, STEPS)
            assert (venv.delivered, venv.held) == (2 * STEPS * flushed, 0)
            writer.flush()
            assert ended_by(tmp_path) == ["terminated"] * 2 * flushed


def test_running_episodes_come_when_the_recorder_is_closed(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        step(venv, 2 * STEPS + 1)
        venv.close()
    assert sorted(map(str, ended_by(tmp_path))) == ["closed"] * 2 + ["terminated"] * 4
    assert (venv.delivered, venv.held) == (2 * (2 * STEPS + 1), 0)


@pytest.mark.parametrize("ends", [False, True])
def test_a_writer_that_is_closed_first(tmp_path: Path, ends: bool) -> None:
    """The recorder keeps what the writer does not take."""
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        step(venv, 2 * STEPS + 1)
    if ends:
        with pytest.raises(ProtocolError, match="close recorders first"):
            step(venv, STEPS)
    with pytest.raises(ProtocolError, match="close recorders first") as caught:
        venv.close()
    assert f"held={venv.held}" in caught.value.__notes__[0]
    assert "pop_trajectories" in caught.value.__notes__[0]
    assert ended_by(tmp_path) == ["terminated"] * 4
    popped = venv.pop_trajectories()[0]
    assert [len(each) for each in popped] == [STEPS if ends else 1] * 2
    venv.close()


def test_running_episodes_are_popped_and_finished_ones_are_not(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        venv = recorder(writer)
        step(venv, STEPS + 1)
        assert venv.pop_finished_trajectories() == ([], [])
        assert [len(each) for each in venv.pop_trajectories()[0]] == [1, 1]
        step(venv, 1)
        assert len(venv.pop_transitions()) == 2
        assert (venv.delivered, venv.popped) == (2 * STEPS, 4)
    assert ended_by(tmp_path) == ["terminated"] * 2


@pytest.mark.parametrize("space", ["dict", spaces.Box(0, 255, (32, 32), np.uint8)], ids=["small rows", "large rows"])
@pytest.mark.parametrize("pops", [False, True])
def test_steps_of_later_do_not_reach_what_waits(space: Any, pops: bool, tmp_path: Path) -> None:
    """The writer's thread gathers trajectories while the log takes further steps, and lets go of those before."""
    scenario = Scenario(space=space)
    with TraceWriter(tmp_path) as writer:
        venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), sink=writer, max_transitions=60)
        venv.reset()
        popped: list[Any] = []
        for start in range(0, 300, 30):
            run(venv, scenario, start, start + 30)
            if pops:
                popped += venv.pop_trajectories()[0]
    fragments = sorted([*open_traces(tmp_path), *popped], key=lambda each: (each.episode.id, each.episode.start_step))
    wholes = stitched(fragments)
    if not pops:
        wholes += venv.pop_trajectories()[0]
    by_episode = {(each.episode.env_index, each.episode.reset_info["episode"]): each for each in wholes}
    expected = scenario.recorded(0, 300)
    assert_recorded([by_episode[each.env_index, each.episode] for each in expected], expected)


def stitched(fragments: Iterable[Any]) -> list[Any]:
    """The episodes that fragments are of."""
    episodes: dict[Any, list[Any]] = {}
    for each in fragments:
        episodes.setdefault(each.episode.id, []).append(each)
    return [stitch(each) for each in episodes.values()]


def test_two_recorders_that_flush_fragments_in_turns(tmp_path: Path) -> None:
    """Each fragment is of the episode that it goes on with."""
    venvs = []
    with TraceWriter(tmp_path) as writer:
        for first in (0, 100):
            venv = DummyVecEnv([lambda first=first: CountingEnv("box", [EpisodeScript(9)], first=first)])
            options: Any = {"sink": writer, "max_transitions": 2, "on_full": "flush"}
            venvs.append(BufferingWrapper(venv, **options))
            venvs[-1].reset()
        for _ in range(9):
            for venv in venvs:
                venv.step(np.zeros(1, np.int64))
    episodes = stitched_by_recording(open_traces(tmp_path))
    assert sorted(each.obs[:, 0].tolist() for each in episodes) == [list(range(10)), list(range(100, 110))]


def stitched_by_recording(fragments: Iterable[Any]) -> list[Any]:
    recordings: dict[Any, list[Any]] = {}
    for each in fragments:
        recordings.setdefault(each.episode.recording, []).append(each)
    return [whole for each in recordings.values() for whole in stitched(each)]


class Broken(TraceWriter):
    """Refuses everything while it is broken."""

    is_broken = False

    def extend(self, trajectories: Any, /, **options: Any) -> Any:
        if self.is_broken:
            raise TraceWriteError("of the test")
        return super().extend(trajectories, **options)


def test_nothing_is_lost_where_the_writer_fails(tmp_path: Path) -> None:
    writer = Broken(tmp_path)
    venv = recorder(writer)
    step(venv, STEPS)
    writer.is_broken = True
    with pytest.raises(TraceWriteError, match="of the test"):
        step(venv, STEPS)
    assert (venv.held, venv.delivered) == (2 * STEPS, 2 * STEPS)
    trajectories = venv.pop_trajectories()[0]
    assert [each.obs[:, 0].tolist() for each in trajectories] == [list(range(STEPS + 1))] * 2
    writer.is_broken = False
    venv.reset()
    step(venv, STEPS)
    writer.close()
    assert len(open_traces(tmp_path)) == 4
