"""Collecting with workers on Ray: what a worker costs beside a plain process, and what a large cluster would do."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Table, at_least, at_most, number

_ENVS = 8
_WEIGHTS = 5_000_000
_STEP_S = 20e-6
"""How long a step of each environment takes: about one of MuJoCo's."""
_CHUNK_S = 0.5
"""As by default."""


class _Costs(NamedTuple):
    """What was measured here, in seconds."""

    step_s: float
    """Of a worker, a step of one environment."""
    report_s: float
    """Processor time of the driver's process for a report."""
    wait_s: float
    """Of the driver, for each order that it looks after when it asks which are done."""
    look_s: float
    """Of the driver, for each worker whose files it looks at after a round."""
    send_s: float
    """Until new weights are in all workers of a machine."""
    step_bytes: float
    """Written to disk for a step."""


def distributed_tables(options: Options) -> list[Table]:
    """One process, one worker and two workers on the same steps, weights of 5 MB, and a simulation of 1,000 workers."""
    try:
        import ray
    except ImportError:
        return []
    steps = 20_000 if options.is_quick else 200_000
    rates: dict[str, float] = {}
    sends: dict[int, float] = {}
    step_bytes = 0.0
    try:
        for _ in range(min(options.runs, 3)):
            plain, step_bytes = _plain(steps)
            rates["plain"] = max(plain, rates.get("plain", 0.0))
            for workers in (1, 2):
                rate, send = _workers(workers, steps)
                rates[f"{workers}"] = max(rate, rates.get(f"{workers}", 0.0))
                sends[workers] = min(send, sends.get(workers, send))
        look_s = _look_s(20 if options.is_quick else 1000)
        costs = _Costs(1 / rates["1"], _report_s(), _wait_s(), look_s, sends[2], step_bytes)
    finally:
        ray.shutdown()
    rows = [
        ["one process, no Ray", number(rates["plain"]), "1", ""],
        ["1 worker", number(rates["1"]), at_least(rates["1"] / rates["plain"], 0.9), number(sends[1] * 1e3)],
        ["2 workers", number(rates["2"]), at_least(rates["2"] / rates["1"], 1.7), number(sends[2] * 1e3)],
    ]
    note = (
        f"CartPole at {_STEP_S * 1e6:.0f} us a step, {_ENVS} environments a worker, random actions, to disk. "
        "Steps a second by wall time, the best run. The ratio of 1 worker is to the plain process, that of 2 workers "
        "to 1. Broadcast: milliseconds until all workers have 5 MB of new weights."
    )
    columns = ["", "steps a second", "ratio", "broadcast, ms"]
    return [Table("Distributed collecting", columns, rows, note), _simulated(costs)]


def _make() -> Any:
    import gymnasium as gym

    class Slowed(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            until = time.perf_counter() + _STEP_S
            returned = self.env.step(action)
            while time.perf_counter() < until:
                pass
            return returned

    return Slowed(gym.make("CartPole-v1"))


def _plain(steps: int) -> tuple[float, float]:
    """Steps a second, and bytes a step."""
    import gymnasium as gym

    from vecrollout import record_traces

    with tempfile.TemporaryDirectory() as directory:
        rule = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        env = record_traces(gym.vector.SyncVectorEnv([_make] * _ENVS, **rule), directory)
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        begin = time.perf_counter()
        for _ in range(steps // _ENVS):
            env.step(rng.integers(0, 2, _ENVS))
        env.flush()
        elapsed = time.perf_counter() - begin
        env.close()
        size = sum(file.stat().st_size for file in Path(directory).iterdir())
    return steps / elapsed, size / steps


class _Random:
    """Random actions that cost as little as those of the plain process."""

    def __init__(self, env: Any = None) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, observations: Any, states: Any, starts: Any) -> Any:
        return self.rng.integers(0, 2, len(observations)), None

    def load(self, weights: Any) -> None:
        self.weights = weights


def _workers(workers: int, steps: int) -> tuple[float, float]:
    """Steps a second, and seconds of a broadcast."""
    from vecrollout.distributed import Collector, PolicyHandle

    weights = np.random.default_rng(0).bytes(_WEIGHTS)
    handle = PolicyHandle(_Random, _Random.load)
    handle.publish(np.zeros(1))
    with (
        tempfile.TemporaryDirectory() as directory,
        Collector(_make, directory, num_workers=workers, num_envs=_ENVS, seed=0, chunk_s=_CHUNK_S) as collector,
    ):

        def short(contents: Any) -> None:
            handle.publish(contents)
            collector.collect(handle, steps=_ENVS * workers)

        short(np.zeros(1))
        elapsed = _time(lambda: collector.collect(handle, steps=steps * workers))
        without = min(_time(lambda: short(np.zeros(1))) for _ in range(10))
        sends = [_time(lambda: short(np.frombuffer(weights, np.uint8))) for _ in range(10)]
    return steps * workers / elapsed, max(min(sends) - without, 0.0)


def _time(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _report_s() -> float:
    """From a round with many reports."""
    from vecrollout.distributed import Collector

    reports = 0
    ends = time.perf_counter() + 5.0

    def until(progressed: Any) -> bool:
        nonlocal reports
        reports += 1
        return time.perf_counter() > ends

    with (
        tempfile.TemporaryDirectory() as directory,
        Collector(_make, directory, num_workers=2, num_envs=_ENVS, seed=0, chunk_s=0.01) as collector,
    ):
        collector.collect(None, steps=_ENVS)
        ends = time.perf_counter() + 3.0
        begin = time.process_time()
        collector.collect(None, until=until)
        return (time.process_time() - begin) / reports


def _wait_s(orders: int = 1000) -> float:
    """Of asking which of many orders are done."""
    import ray

    @ray.remote
    class Sleeper:
        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    sleeper: Any = Sleeper.remote()  # type: ignore[attr-defined]
    refs = [sleeper.sleep.remote(100.0) for _ in range(orders)]
    least = min(_time(lambda: ray.wait(refs, num_returns=orders, timeout=0)) for _ in range(20))
    ray.kill(sleeper)
    return least / orders


def _look_s(workers: int) -> float:
    """Of finding the trajectories of many workers."""
    from vecrollout import TraceWriter, TrajectoryBatch, open_traces

    batch = TrajectoryBatch.from_arrays(np.zeros((101, 4)), np.zeros(100), np.zeros(100), lengths=[100])
    with tempfile.TemporaryDirectory() as directory:
        for worker in range(workers):
            with TraceWriter(directory, metadata={"worker": worker}) as writer:
                writer.extend(batch)
        traces = open_traces(directory)

        def look() -> None:
            traces.refresh()
            traces.to_arrow()

        return min(_time(look) for _ in range(3)) / workers


_MACHINE_WORKERS = 16
_NETWORK_BYTES = 1.25e9
_STORE_BYTES = 1e9
_ROUND_S = 10.0


def _simulated(costs: _Costs) -> Table:
    """Rounds of many workers."""
    rows = []
    for workers, chunk_s in ((1, _CHUNK_S), (10, _CHUNK_S), (100, _CHUNK_S), (1000, _CHUNK_S), (1000, 5.0)):
        acting, busy = _acting(workers, costs, chunk_s)
        machines = -(-workers // _MACHINE_WORKERS)
        sending = costs.send_s + machines * _WEIGHTS / _NETWORK_BYTES
        looking = workers * costs.look_s
        rate = workers * _ROUND_S / costs.step_s / (acting + sending + looking)
        shares = {
            "driver": busy / acting,
            "broadcast": sending / _ROUND_S,
            "looking at files": looking / _ROUND_S,
            "storage": rate * costs.step_bytes / _STORE_BYTES,
        }
        rows.append(
            [
                f"{workers:,}",
                f"{chunk_s:g}",
                number(rate),
                at_least(rate * costs.step_s / workers, 0.9),
                *(at_most(share, 1.0) for share in shares.values()),
                max(shares, key=lambda name: shares[name]),
            ]
        )
    note = (
        f"A simulation, not a measurement, from costs that were measured here: {costs.step_s * 1e6:.1f} us for a step "
        f"of a worker, {costs.report_s * 1e6:.0f} us of the driver for a report, {costs.wait_s * 1e6:.2f} us for each "
        f"worker that it waits for, {costs.look_s * 1e6:.0f} us for each worker whose files it looks at after a round, "
        f"{costs.send_s * 1e3:.1f} ms for new weights on a machine, {costs.step_bytes:.0f} bytes a step. Each round "
        f"sends 5 MB of weights from the driver to every machine, one after another; then each worker acts for "
        f"{_ROUND_S:.0f} s and reports every chunk_s seconds. Assumed: {_MACHINE_WORKERS} workers a machine, a "
        f"network of {_NETWORK_BYTES / 1e9:.2f} GB/s, storage of {_STORE_BYTES / 1e9:.0f} GB/s. The driver's share is "
        "of the time in which workers act; broadcast and files are in seconds for each second of acting; storage is "
        "the share of its throughput."
    )
    shares_of = ["driver", "broadcast", "files", "storage", "saturates first"]
    columns = ["workers", "chunk_s", "steps a second", "of ideal", *shares_of]
    return Table("Simulation: many workers", columns, rows, note)


def _acting(workers: int, costs: _Costs, chunk_s: float) -> tuple[float, float]:
    """Seconds until all workers have acted long enough, and seconds in which the driver is busy.

    The driver takes all reports that are there, and gives each worker its next order. Workers wait meanwhile.
    """
    chunks = round(_ROUND_S / chunk_s)
    # Workers begin one after another, as the driver gives them their orders.
    arrivals = np.arange(workers) * costs.report_s + chunk_s
    left = np.full(workers, chunks)
    now, busy = 0.0, 0.0
    while left.any():
        waiting = left > 0
        now = max(now, float(arrivals[waiting].min()))
        ready = waiting & (arrivals <= now)
        spent = 2 * costs.wait_s * int(waiting.sum()) + costs.report_s * int(ready.sum())
        now, busy = now + spent, busy + spent
        left[ready] -= 1
        arrivals[ready] = now + chunk_s
    return now, busy
