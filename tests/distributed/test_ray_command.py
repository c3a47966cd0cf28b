"""`vecrollout record --ray-workers`: the real command, on a cluster and on Ray that it starts itself."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import drivers
import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from vecrollout import TraceDataset, open_traces, verify_traces
from vecrollout.cli.app import app


class Ran(NamedTuple):
    code: Any
    out: str
    err: str


def run(*arguments: object) -> Ran:
    """Run the command in this process, which is connected to the cluster."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        app([str(each) for each in arguments], prog_name="vecrollout")
    return Ran(ended.value.code or 0, out.getvalue(), err.getvalue())


def test_a_program_records_by_workers_of_a_cluster(cluster: Any, tmp_path: Path) -> None:
    master, slave = os.openpty()
    shown: list[bytes] = []
    options = ("--ray-workers", 2, "--n-envs", 3, "--steps", 120_001, "--seed", 4, "--out", "out")
    variables = drivers.environment(cluster, TERM="xterm", COLUMNS="200")
    process = drivers.start(["-m", "vecrollout", "record", "CartPole-v1", *options], tmp_path, variables, stderr=slave)
    os.close(slave)
    reader = threading.Thread(target=read_all, args=(master, shown))
    reader.start()
    out, _ = process.communicate(timeout=drivers.LIMIT_S)
    reader.join()
    os.close(master)
    text = b"".join(shown).decode()
    assert process.returncode == 0, text
    # The line, while it ran.
    progress = r"2 workers · [\d,]+ of 120,001 steps · [\d,]+ a second · [\d,]+ episodes"
    assert re.search(rf"{progress} · mean return \d+\.\d\d · 0 restarts · [1-9][\d.,]* (bytes|[kM]B)", text), text
    # The summary.
    traces = open_traces(tmp_path / "out")
    episodes = traces.whole_episodes()
    assert traces.total_steps == 120_001
    assert f"episodes      {len(episodes):,}\nsteps         120,001\n" in out
    assert f"length        mean {episodes.lengths.mean():.2f}" in out
    assert re.search(r"^speed +[\d,]+ steps a second\nseed +4\nsize on disk +[\d.,]+ [kM]B$", out, re.MULTILINE)
    assert re.search(r"^ended by +terminated [\d,]+, closed [1-6]$", out, re.MULTILINE), out
    # The recording.
    last = {(row["worker"], row["env"]): row["ended_by"] for row in by_time(traces)}
    assert len(last) == 6
    assert set(last.values()) <= {"terminated", "truncated", "closed"}
    assert set(traces.to_arrow().column("worker").to_pylist()) == {0, 1}
    assert (traces.metadata["env_id"], traces.metadata["recorded_with"]["ray_workers"]) == ("CartPole-v1", 2)
    seeds = traces.stitched().to_arrow().column("reset_seed").to_pylist()
    assert len(set(seeds)) == len(seeds)
    replayed = run("replay", tmp_path / "out", "--episodes", "0-40")
    assert replayed.code == 0, replayed


def by_time(traces: TraceDataset) -> list[dict[str, Any]]:
    """The rows of the episode table, those of an environment in the order of its steps."""
    rows: list[dict[str, Any]] = traces.to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["id"], row["start_step"]))


def read_all(master: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a terminal that was closed
        while block := os.read(master, 4096):
            shown.append(block)


def test_a_model_sees_normalized_observations(cluster: Any, tmp_path: Path) -> None:
    normalize = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = A2C("MlpPolicy", normalize, device="cpu", seed=0)
    model.learn(40)
    model.save(tmp_path / "model")
    normalize.save(str(tmp_path / "vecnormalize.pkl"))
    options = ("--policy", tmp_path / "model.zip", "--deterministic", "--ray-workers", 2, "--n-envs", 2)
    ran = run("record", "CartPole-v1", *options, "--episodes", 6, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    (line,) = ran.err.splitlines()
    assert "observations are normalized by" in line
    traces = open_traces(tmp_path / "out")
    assert len(traces) >= 6
    assert all(each.terminated or each.truncated for each in traces)
    normalize.training = False
    for each in traces:
        assert np.abs(each.obs[0]).max() <= 0.05, "raw"
        seen = normalize.normalize_obs(each.obs[:-1])
        np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], each.acts)


@pytest.mark.slow  # two recordings
def test_the_seed_repeats_a_recording(cluster: Any, tmp_path: Path) -> None:
    A2C("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "model")
    for name in ("one", "other"):
        options = ("--policy", tmp_path / "model", "--ray-workers", 2, "--n-envs", 2, "--steps", 120, "--seed", 7)
        assert run("record", "CartPole-v1", *options, "--out", tmp_path / name).code == 0
    recorded = [
        sorted((each.obs.tobytes(), each.acts.tobytes()) for each in open_traces(tmp_path / name))
        for name in ("one", "other")
    ]
    assert recorded[0] == recorded[1]


STEERING = """
import numpy as np

def right(observations):
    return ones(len(observations))

def ones(count):
    return np.ones(count, dtype=int)
"""


def test_it_starts_ray_and_ctrl_c_keeps_everything(tmp_path: Path) -> None:
    """As in a terminal, the signal goes to all processes of the group. The policy is in a file named like a library."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "random.py").write_text(STEERING)
    variables = drivers.environment(None, HOME=str(tmp_path))
    options = ("--ray-workers", 2, "--n-envs", 2, "--episodes", 10**9, "--out", "out", "--vec", "sync")
    policy = ("--policy", tmp_path / "policies" / "random.py:right")
    process = drivers.start(["-m", "vecrollout", "record", "CartPole-v1", *options, *policy], tmp_path, variables)
    begin = time.monotonic()
    while not list(tmp_path.glob("out/*.arrow")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < drivers.LIMIT_S
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=drivers.LIMIT_S)
    assert process.returncode == 130, err
    assert err.splitlines() == ["vecrollout: interrupted; everything recorded so far is kept"]
    assert verify_traces(tmp_path / "out").ok
    traces = open_traces(tmp_path / "out")
    assert f"steps         {traces.total_steps:,}" in out
    assert all((each.acts == 1).all() for each in traces)
    running = [each for each in traces.stitched() if not (each.terminated or each.truncated)]
    assert 1 <= len(running) <= 4, "of each environment, its running episode"
    assert {each.episode.ended_by for each in running} == {"closed"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames"], "frames: expected a recording without --ray-workers"),
        (["--device", "cuda"], "device: expected cpu with --ray-workers, got cuda"),
        (["--policy", "missing.zip"], "no file of this name"),
        (["--policy", "pendulum.zip"], "the model was trained in another environment"),
        (["--deterministic"], "deterministic: expected a model"),
        (["--env-arg", "gravity=1"], "gravity"),
    ],
)
def test_mistakes_are_one_line_before_workers_start(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "pendulum.zip" in options:
        A2C("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "pendulum")
    ran = run("record", "CartPole-v1", "--steps", 10, "--ray-workers", 2, "--out", "out", *options)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("vecrollout: error: ")
    assert told in line
    assert not (tmp_path / "out").exists()


LOCKED = """
import threading

lock = threading.Lock()

def act(observations):
    with lock:
        return [0] * len(observations)
"""


def test_a_function_that_cannot_be_sent(cluster: Any, tmp_path: Path) -> None:
    """It is found before the traces that are there are removed."""
    (tmp_path / "locked.py").write_text(LOCKED)
    policy = tmp_path / "locked.py:act"
    options = ("--policy", policy, "--steps", 10, "--out", tmp_path / "out")
    assert run("record", "CartPole-v1", *options).code == 0
    ran = run("record", "CartPole-v1", *options, "--ray-workers", 2, "--overwrite")
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.endswith("cannot pickle '_thread.lock' object; create what cannot be pickled in the function")
    assert open_traces(tmp_path / "out").total_steps == 10


@pytest.mark.parametrize("number", ["-1", "0", "two"])
def test_numbers_of_workers(tmp_path: Path, number: str) -> None:
    ran = run("record", "CartPole-v1", "--steps", 10, "--out", tmp_path / "out", "--ray-workers", number)
    assert (ran.code, ran.out) == (2, "")
    assert "Invalid value for '--ray-workers'" in ran.err
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_environment_is_one_line(cluster: Any, tmp_path: Path) -> None:
    options = ("--steps", 10, "--out", tmp_path / "out", "--ray-workers", 1)
    ran = run("record", "ticking:Unlicensed-v0", *options)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert re.fullmatch(r"vecrollout: error: worker 0: ValueError: the simulator is not licensed", line)
