"""What goes wrong: bad options, which cost nothing that is there, and workers that fail."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from ticking import Numbered, Ticking, Unlicensed, check_all

from vecrollout import open_traces
from vecrollout.distributed import Collector, PolicyHandle, collect
from vecrollout.errors import (
    ArgumentTypeError,
    MissingDependencyError,
    OptionError,
    PolicyError,
    ProtocolError,
    SpaceMismatchError,
    WorkerError,
)

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def workers(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A worker that survives the mistakes of a caller."""
    with Collector(Ticking, tmp_path_factory.mktemp("shared"), num_workers=1, chunk_s=0.1) as collector:
        yield collector


class Locked:
    """A policy that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        return observations, None


class Failing(Ticking):
    def step(self, action: Any) -> Any:
        if self.number % 5 == 0 and self.step_count == 2:
            raise ValueError("the arm broke")
        return super().step(action)


class Endless(Ticking):
    """Its episodes do not end."""

    def step(self, action: Any) -> Any:
        self.step_count += 1
        return self._obs(), float(self.step_count), False, False, {}


class FailingOnce:
    """A policy that fails at its 100th step."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        self.steps += 1
        if self.steps == 100:
            raise ValueError("the battery is low")
        return np.zeros(len(observations), int), None


class Slower:
    """A policy that acts in the process that asks first. In another one it returns nothing, but later."""

    def __init__(self, file: Path) -> None:
        self.file, self.is_first = file, False

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        if not self.is_first:
            try:
                self.file.touch(exist_ok=False)
            except FileExistsError:
                time.sleep(3)
                return None
            self.is_first = True
        return np.zeros(len(observations), int), None


class FailingFirst(Ticking):
    """Its episodes do not end. Those of the process that is the first to take 100 steps cannot go on."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def step(self, action: Any) -> Any:
        if self.step_count == 100:
            with contextlib.suppress(FileExistsError):
                self.file.touch(exist_ok=False)
                raise ValueError("the arm broke")
        self.step_count += 1
        return self._obs(), float(self.step_count), False, False, {}


class Irreplaceable(Ticking):
    """Its episodes do not end. The process that is the first to take 100 steps dies, and there is no other one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if file.exists():
            raise ValueError("there is no second robot")

    def step(self, action: Any) -> Any:
        if self.step_count == 100:
            with contextlib.suppress(FileExistsError):
                self.file.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        self.step_count += 1
        return self._obs(), float(self.step_count), False, False, {}


def check_kept(directory: Path) -> None:
    assert open_traces(directory).total_steps == 5
    assert [each.name for each in directory.iterdir() if "probe" in each.name] == []


def test_a_stream_shows_the_error_of_a_worker(tmp_path: Path) -> None:
    with Collector(Failing, tmp_path, num_workers=1, num_envs=2, seed=1, chunk_s=0.1) as collector:
        with pytest.raises(WorkerError, match="the arm broke"):
            for _ in collector.stream(None):
                pass
        with pytest.raises(ProtocolError, match="has failed"):
            collector.collect(None, steps=10)
    check_all(open_traces(tmp_path))


def test_an_environment_that_raises_at_reset_is_shown_once(kept: Path) -> None:
    with pytest.raises(WorkerError, match=r"worker [01]: ValueError: the simulator is not licensed") as caught:
        Collector(Unlicensed, kept, num_workers=2, overwrite=True)
    assert str(caught.value).count("licensed") == 1
    check_kept(kept)


def test_a_class_is_no_environment(kept: Path) -> None:
    with pytest.raises(ArgumentTypeError, match=r"worker 0: env_fn: expected a VecEnv .*, got type; call it first"):
        Collector(lambda: Ticking, kept, num_workers=1, overwrite=True)  # type: ignore[arg-type, return-value]
    check_kept(kept)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("record_infos", "some", OptionError),
        ("record_infos", 3, ArgumentTypeError),
        ("compression", "gzip", OptionError),
        ("max_shard_bytes", 1, OptionError),
        ("queue_bytes", "many", ArgumentTypeError),
        ("flush_every_s", 0, OptionError),
        ("metadata", [1], ArgumentTypeError),
        ("episode_metadata", {"a": 1}, ArgumentTypeError),
        ("spaces", 3, ArgumentTypeError),
        ("env_spec", 3, ArgumentTypeError),
        ("seed", -1, OptionError),
        ("seed", "one", ArgumentTypeError),
        ("num_envs", 0, OptionError),
        ("ray_options", {"num_cpu": 2}, OptionError),
        ("ray_options", {"num_cpus": -1}, OptionError),
        ("ray_options", 2, ArgumentTypeError),
    ],
)
def test_bad_options(kept: Path, option: str, value: Any, error: type[Exception]) -> None:
    """They cost neither traces nor the start of workers."""
    with pytest.raises(error, match=f"^{option}: "):
        Collector(Ticking, kept, overwrite=True, **{option: value})
    check_kept(kept)
    with pytest.raises(error, match=f"^{option}: "):
        Collector(Ticking, kept / "new", **{option: value})
    assert not (kept / "new").exists()


def test_a_line_without_rich(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"vecrollout\[rich\]\""):
        Collector(Ticking, kept, overwrite=True, progress=True)
    check_kept(kept)


def test_an_option_that_cannot_be_pickled(kept: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(PolicyError, match="episode_metadata, overwrite: expected something that can be pickled"):
        Collector(Ticking, kept, episode_metadata=lambda each: {"lock": lock}, overwrite=True)
    check_kept(kept)


@pytest.mark.parametrize(
    ("policy", "conditions", "error", "told"),
    [
        (None, {}, OptionError, "steps, episodes, until: expected one of them"),
        (None, {"steps": 1, "episodes": 1}, OptionError, "steps, episodes, until: expected one of them"),
        (None, {"steps": 0}, OptionError, "steps: expected a positive number"),
        (None, {"until": 3}, ArgumentTypeError, "until: expected a function"),
        ("ppo.zip", {"steps": 1}, PolicyError, "Policy must be None, a Stable-Baselines3 algorithm"),
        (lambda obs: obs, {"steps": 1}, PolicyError, "policy: expected a function"),
        (Locked(), {"steps": 1}, PolicyError, "policy: expected something that can be pickled"),
        (PolicyHandle(Numbered.build, Numbered.set_number), {"steps": 1}, ProtocolError, "call publish"),
    ],
)
def test_a_bad_policy_or_condition(
    kept: Path, policy: Any, conditions: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        collect(Ticking, policy, kept, num_workers=1, overwrite=True, **conditions)
    check_kept(kept)


def test_the_workers_beside_one_that_fails_keep_what_they_recorded(tmp_path: Path) -> None:
    env_fn = functools.partial(FailingFirst, tmp_path / "failed")
    collector = Collector(env_fn, tmp_path / "traces", num_workers=2, num_envs=2)
    with collector, pytest.raises(WorkerError, match="the arm broke"):
        collector.collect(None, steps=100_000)
    written = collector.written()
    assert set(written.to_arrow().column("worker").to_pylist()) == {0, 1}
    assert {each.episode.ended_by for each in written} == {"closed"}
    assert max(written.lengths) > 100


def test_the_workers_beside_one_that_cannot_start_again_keep_what_they_recorded(tmp_path: Path) -> None:
    env_fn = functools.partial(Irreplaceable, tmp_path / "died")
    collector = Collector(env_fn, tmp_path / "traces", num_workers=2)
    with collector, pytest.raises(WorkerError, match="there is no second robot"):
        collector.collect(None, steps=10_000_000)
    (written,) = collector.written()
    assert written.episode.ended_by == "closed"
    assert len(written) > 100


def test_a_stream_keeps_what_a_worker_does_after_an_error(tmp_path: Path) -> None:
    """It has a second order already, for which it begins episodes anew."""
    with (
        Collector(Endless, tmp_path, num_workers=1, chunk_s=0.2) as collector,
        pytest.raises(WorkerError, match="the battery is low"),
    ):
        for _ in collector.stream(FailingOnce()):
            pass
    before, after = sorted(open_traces(tmp_path), key=lambda each: each.episode.id or 0)
    assert len(before) == 99
    assert {each.episode.ended_by for each in (before, after)} == {"closed"}
    check_all([before, after])


def test_a_round_after_a_last_one_that_failed(tmp_path: Path) -> None:
    """A worker had ended its episodes by then."""
    with Collector(Endless, tmp_path / "traces", num_workers=2, num_envs=2) as collector:
        with pytest.raises(PolicyError, match="expected it to return a tuple"):
            collector.collect(Slower(tmp_path / "first"), steps=400, close=True)
        data = collector.collect(None, steps=400)
    assert data.total_steps == 400
    check_all(open_traces(tmp_path / "traces"))


def test_a_step_that_raises_keeps_what_was_recorded(tmp_path: Path) -> None:
    with Collector(Failing, tmp_path, num_workers=1, num_envs=2, seed=1) as collector:
        with pytest.raises(WorkerError, match="the arm broke"):
            collector.collect(None, steps=100_000)
        with pytest.raises(ProtocolError, match="has failed"):
            collector.collect(None, steps=10)
    kept = open_traces(tmp_path)
    assert kept.total_steps
    check_all(kept)


def test_a_policy_that_cannot_be_pickled(workers: Collector) -> None:
    lock = threading.Lock()
    with pytest.raises(PolicyError, match="policy: expected something that can be pickled"):
        workers.collect(lambda obs, states, starts: (lock, None), steps=10)
    assert workers.collect(None, steps=10).total_steps == 10


def test_a_handle_that_cannot_be_pickled(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(PolicyError, match="weights: expected something that can be pickled"):
        PolicyHandle(Numbered.build, Numbered.set_number).publish(lock)
    with pytest.raises(PolicyError, match="build, load: expected something that can be pickled"):
        PolicyHandle(lambda env: lock, Numbered.set_number).publish(1)  # type: ignore[arg-type, return-value]


def test_environments_that_cannot_be_pickled(kept: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(PolicyError, match=r"env_fn: expected .* got function: cannot pickle '_thread.lock' object;"):
        Collector(lambda: lock, kept, overwrite=True)  # type: ignore[arg-type, return-value]
    check_kept(kept)


def test_a_model_of_another_space(workers: Collector) -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    with pytest.raises(SpaceMismatchError, match=r"worker [01]: Observation spaces do not match"):
        workers.collect(model, steps=10)
    assert workers.collect(None, steps=10).total_steps == 10


def test_too_few_processors(kept: Path) -> None:
    options = {"num_cpus": 3}
    with pytest.raises(WorkerError, match="2 of 2 workers did not start in start_timeout_s=1; the cluster has 4 CPUs"):
        Collector(Ticking, kept, num_workers=2, ray_options=options, start_timeout_s=1, overwrite=True)
    check_kept(kept)


def test_another_number_of_environments(kept: Path) -> None:
    with pytest.raises(OptionError, match="num_envs: expected None or 3, as many as env_fn makes, got 2"):
        Collector(lambda: DummyVecEnv([Ticking] * 3), kept, num_envs=2, num_workers=1, overwrite=True)
    check_kept(kept)


@pytest.mark.parametrize("conditions", [{}, {"steps": 1, "episodes": 1}, {"steps": 0}, {"episodes": -1}])
def test_conditions(workers: Collector, conditions: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=r"steps|episodes"):
        workers.collect(None, **conditions)  # type: ignore[arg-type]


def test_a_handle_without_weights(workers: Collector) -> None:
    handle = PolicyHandle(Numbered.build, Numbered.set_number)
    with pytest.raises(ProtocolError, match="publish"):
        workers.collect(handle, steps=10)


def test_a_misspelled_option(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="did you mean 'num_workers'"):
        collect(Ticking, None, tmp_path, steps=10, num_worker=2)
