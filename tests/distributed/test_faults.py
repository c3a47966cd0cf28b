"""Workers and nodes that die at random moments."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ticking import NODE, Ticking, check_all, length_of

from vecrollout import open_traces
from vecrollout.distributed import Collector
from vecrollout.errors import WorkerError


class Registered(Ticking):
    """Leaves a file with the name of its process."""

    def __init__(self, folder: Path) -> None:
        (folder / str(os.getpid())).touch()


class Killing:
    """Kills workers, and with a cluster also removes nodes, at random moments; nodes start in the main thread only."""

    def __init__(self, folder: Path, seed: int, cluster: Any = None) -> None:
        self._folder, self._rng, self._cluster = folder, np.random.default_rng(seed), cluster
        self.kills = 0

    def kill(self) -> None:
        """Kill one, after a while."""
        time.sleep(self._rng.uniform(0.0, 2.0))
        if self._cluster is not None and self._rng.random() < 0.3:
            self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)
            self._cluster.add_node(**NODE)
            self.kills += 1
            return
        alive = [int(file.name) for file in self._folder.iterdir() if Path("/proc", file.name).exists()]
        if alive:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(int(self._rng.choice(alive)), signal.SIGKILL)
                self.kills += 1


def check_faults(cluster: Any, tmp_path: Path, kills: int) -> None:
    folder, directory = tmp_path / "processes", tmp_path / "traces"
    folder.mkdir()
    killing = Killing(folder, kills, cluster)
    ends = threading.Event()
    env_fn = functools.partial(Registered, folder)
    with Collector(
        env_fn, directory, num_workers=2, num_envs=3, seed=1, max_restarts=None, chunk_s=0.1, flush_every_s=0.2
    ) as collector:

        def collect() -> list[Any]:
            rounds = []
            while not ends.is_set():
                rounds.append(collector.collect(None, steps=9_000))
                rounds.append(collector.collect(None, episodes=300))
            return rounds

        with ThreadPoolExecutor() as executor:
            collected = executor.submit(collect)
            try:
                while killing.kills < kills and not collected.done():
                    killing.kill()
            finally:
                ends.set()
            rounds = collected.result()
    assert killing.kills == kills
    check_all(each for data in rounds for each in data)
    assert {data.total_steps for data in rounds[::2]} == {9_000}
    assert all(len(data) >= 300 for data in rounds[1::2])
    assert all(each.terminated or each.truncated for data in rounds[1::2] for each in data)
    everything = open_traces(directory)
    check_all(everything)
    assert len({each.total_steps for each in rounds}) > 1
    ended = [each for each in everything.whole_episodes() if each.terminated or each.truncated]
    assert all(len(each) == length_of(int(each.obs[0, 0])) for each in ended)


def test_killed_workers_and_nodes(cluster: Any, tmp_path: Path) -> None:
    check_faults(cluster, tmp_path, 4)


@pytest.mark.slow
def test_fifty_kills(cluster: Any, tmp_path: Path) -> None:
    check_faults(cluster, tmp_path, 50)


class DyingOnce(Ticking):
    """Its process dies at the next step if there is no file, which it then makes."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def step(self, action: Any) -> Any:
        if not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def test_a_worker_that_dies_before_anything_is_written(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "died"
    with Collector(functools.partial(DyingOnce, file), tmp_path / "traces", num_workers=1, num_envs=2) as collector:
        steps = collector.collect(None, steps=40)
        file.unlink()
        episodes = collector.collect(None, episodes=40)
    assert steps.total_steps == 40
    assert len(episodes) >= 40
    for deaths, data in enumerate((steps, episodes), 1):
        assert set(data.to_arrow().column("incarnation").to_pylist()) == {deaths}
        check_all(data)


def test_a_stream_goes_on(cluster: Any, tmp_path: Path) -> None:
    """A worker that dies has two orders, and is started again once."""
    folder, directory = tmp_path / "processes", tmp_path / "traces"
    folder.mkdir()
    env_fn = functools.partial(Registered, folder)
    incarnations = set()
    with Collector(env_fn, directory, num_workers=1, num_envs=2, max_restarts=2, chunk_s=0.1) as collector:
        for part in collector.stream(None):
            check_all(part)
            number = max(part.to_arrow().column("incarnation").to_pylist())
            if number == 2:
                break
            if number not in incarnations:
                incarnations.add(number)
                (alive,) = [file.name for file in folder.iterdir() if Path("/proc", file.name).exists()]
                os.kill(int(alive), signal.SIGKILL)
    assert incarnations == {0, 1}
    check_all(open_traces(directory))


def test_too_many_deaths(cluster: Any, tmp_path: Path) -> None:
    folder, directory = tmp_path / "processes", tmp_path / "traces"
    folder.mkdir()
    killing = Killing(folder, 2)
    with Collector(
        functools.partial(Registered, folder), directory, num_workers=1, max_restarts=1, flush_every_s=0.1
    ) as collector:
        collector.collect(None, steps=100)
        with ThreadPoolExecutor() as executor:
            collected = executor.submit(lambda: collector.collect(None, steps=10_000_000))
            while not collected.done():
                killing.kill()
            with pytest.raises(WorkerError, match="worker 0: ended 2 times, of which max_restarts=1"):
                collected.result()
    check_all(open_traces(directory))
    assert open_traces(directory).total_steps >= 100
