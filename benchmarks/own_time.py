"""The recorder's own time in a step of real environments, which leave it cold caches."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from benchmarks.contenders import FLOOR, IMITATION, OURS
from benchmarks.options import Options
from benchmarks.report import Table, at_least, at_most, number, ratio
from benchmarks.timing import Phases, fastest

_NUM_ENVS = 8
_STEPS = 10_000
_MEMORY_AIM, _DISK_AIM = 3, 5
"""Most percent of the environments' time."""
_IMITATION_AIM = 12
"""Times less than imitation."""

_NOTHING, _DISK = "nothing", "vecrollout on disk"
_FLOOR_ON_DISK = "row writes and pyarrow"

Wrap = Callable[[VecEnv, str], Any]
"""Puts a recorder around environments, which may write to a directory."""


class _Timed(VecEnvWrapper):
    """Adds up the nanoseconds that the environments take."""

    taken_ns = 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        start = perf_counter_ns()
        self.venv.step_async(actions)
        self.taken_ns += perf_counter_ns() - start

    def step_wait(self) -> Any:
        start = perf_counter_ns()
        returned = self.venv.step_wait()
        self.taken_ns += perf_counter_ns() - start
        return returned


class _Nothing(VecEnvWrapper):
    """A wrapper that records nothing: the time of the calls themselves."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


class _RowWrites(_Nothing):
    """One assignment a column."""

    def __init__(self, venv: VecEnv, steps: int) -> None:
        super().__init__(venv)
        self._obs = np.empty((steps + 1, self.num_envs, 4), np.float32)
        self._acts = np.empty((steps, self.num_envs), np.int64)
        self._rews = np.empty((steps, self.num_envs), np.float32)
        self._dones = np.empty((steps, self.num_envs), bool)
        self._step = 0

    def step_async(self, actions: np.ndarray) -> None:
        self._acts[self._step] = actions
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        returned = obs, rews, dones, _ = self.venv.step_wait()
        step = self._step
        self._rews[step] = rews
        self._dones[step] = dones
        self._obs[step + 1] = obs
        self._step = step + 1
        return returned


class _RowWritesOnDisk(_RowWrites):
    """Writes the columns when it closes, by pyarrow alone, and makes them durable."""

    def __init__(self, venv: VecEnv, steps: int, directory: str) -> None:
        super().__init__(venv, steps)
        self._path = Path(directory) / "floor.arrow"

    def close(self) -> None:
        steps, envs = np.mgrid[: self._step, : self.num_envs]
        columns = {
            "step": steps.ravel(),
            "env": envs.ravel().astype(np.int32),
            "obs": pa.FixedSizeListArray.from_arrays(pa.array(self._obs[: self._step].ravel()), 4),
            "action": self._acts[: self._step].ravel(),
            "reward": self._rews[: self._step].ravel(),
            "done": self._dones[: self._step].ravel(),
        }
        table = pa.table(columns)
        with self._path.open("wb") as file:
            with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
                writer.write_table(table, max_chunksize=8192)
            file.flush()
            os.fsync(file.fileno())
        super().close()


def own_time_table(options: Options) -> Table:
    """Time in a recorder's calls, without that of the environments inside."""
    steps = options.scaled(_STEPS)
    best = fastest({name: partial(_run, wrap, steps) for name, wrap in _wraps(steps).items()}, 2 * options.runs)
    nothing = best[_NOTHING]
    environment = min(phases["environment"] for phases in best.values())
    own = {
        name: {phase: phases[phase] - nothing[phase] for phase in ("plain", "ending", "own")} | {"rest": phases["rest"]}
        for name, phases in best.items()
    }
    on_disk = (_DISK, _FLOOR_ON_DISK)
    total = {name: each["own"] + (each["rest"] if name in on_disk else 0.0) for name, each in own.items()}
    percent = {name: 100 * each / environment for name, each in total.items()}
    rows = []
    for name in own:
        if name == _NOTHING:
            continue
        aim, limit = {OURS: (_MEMORY_AIM, FLOOR), _DISK: (_DISK_AIM, _FLOOR_ON_DISK)}.get(name, (None, FLOOR))
        ahead = ratio(total.get(IMITATION), total[name])
        rows.append(
            (
                name,
                at_most(percent[name], aim, percent[limit]),
                at_least(ahead, _IMITATION_AIM if name == OURS else None, ratio(total.get(IMITATION), total[FLOOR])),
                *(number(own[name][phase] * 1e6) for phase in ("own", "plain", "ending")),
                number(own[name]["rest"] * 1e6 if name in on_disk else None),
            )
        )
    columns = (
        *("", "percent of the environments' time", "times less than imitation", "us a step"),
        *("us a plain step", "us a step with an end", "processor us a step beside it"),
    )
    note = (
        f"A real `DummyVecEnv` of {_NUM_ENVS} `CartPole-v1` with random actions takes {number(environment * 1e6)} us "
        "a step. The recorder's own time is what its `step` takes without the environments inside, less that of a "
        "wrapper that does nothing: the mean of the quicker half of the steps, with and without an end each, "
        "weighted by how often they come. To disk, the processor time of the writer's thread and of `close` is "
        "added. The limit is what row writes take in the same place; to disk, with the processor time in which pyarrow "
        "writes the same columns with zstd, without infos or identity."
    )
    return Table("Own time in real environments", columns, rows, note)


def _wraps(steps: int) -> dict[str, Wrap]:
    from vecrollout import BufferingWrapper, record_traces

    wraps: dict[str, Wrap] = {
        _NOTHING: lambda venv, _: _Nothing(venv),
        FLOOR: lambda venv, _: _RowWrites(venv, steps),
        _FLOOR_ON_DISK: lambda venv, directory: _RowWritesOnDisk(venv, steps, directory),
        OURS: lambda venv, _: BufferingWrapper(venv),
        _DISK: record_traces,
    }
    if find_spec("imitation"):
        from imitation.data.wrappers import BufferingWrapper as ImitationBufferingWrapper

        wraps[IMITATION] = lambda venv, _: ImitationBufferingWrapper(venv)
    return wraps


def _run(wrap: Wrap, steps: int) -> Phases:
    """Seconds a step: of the recorder, by kind of step, of the environments, and of the processor beside the steps."""
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")] * _NUM_ENVS)
    venv.seed(0)
    timed = _Timed(venv)
    all_actions = np.random.default_rng(0).integers(2, size=(steps, _NUM_ENVS))
    own, inside, is_ending = np.empty(steps), np.empty(steps), np.zeros(steps, bool)
    with tempfile.TemporaryDirectory() as directory:
        recorder = wrap(timed, directory)
        recorder.reset()
        step = recorder.step
        everything, stepping = time.process_time(), time.thread_time()
        for t, actions in enumerate(all_actions):
            timed.taken_ns = 0
            start = perf_counter_ns()
            _, _, dones, _ = step(actions)
            own[t] = perf_counter_ns() - start - timed.taken_ns
            inside[t], is_ending[t] = timed.taken_ns, dones.any()
        stepping = time.thread_time() - stepping
        recorder.close()
        rest = time.process_time() - everything - stepping
    share = is_ending.mean()
    phases = {"plain": _quicker_half(own[~is_ending]), "ending": _quicker_half(own[is_ending]), "rest": rest / steps}
    phases["own"] = (1 - share) * phases["plain"] + share * phases["ending"]
    phases["environment"] = (1 - share) * _quicker_half(inside[~is_ending]) + share * _quicker_half(inside[is_ending])
    return phases


def _quicker_half(nanoseconds: np.ndarray) -> float:
    """Mean seconds of the quicker half, which other work on the machine did not interrupt."""
    ordered = np.sort(nanoseconds)[: max(1, len(nanoseconds) // 2)]
    return float(ordered.mean()) * 1e-9 if len(ordered) else 0.0
