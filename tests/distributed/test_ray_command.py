"""`vecrollout record --ray-workers`: the real command, on a cluster and on Ray that it starts itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import textwrap
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

from vecrollout import open_traces, verify_traces


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(cluster: Any, directory: Path, *arguments: object, **variables: str) -> Ran:
    process = drivers.start(["-m", "vecrollout", *arguments], directory, drivers.environment(cluster, **variables))
    out, err = process.communicate(timeout=drivers.LIMIT_S)
    return Ran(process.returncode, out, err)


def test_exactly_the_steps(cluster: Any, tmp_path: Path) -> None:
    options = ("--ray-workers", 2, "--n-envs", 3, "--steps", 500, "--seed", 4, "--out", "out")
    ran = run(cluster, tmp_path, "record", "CartPole-v1", *options)
    assert (ran.code, ran.err) == (0, "")
    traces = open_traces(tmp_path / "out")
    episodes = traces.whole_episodes()
    assert traces.total_steps == 500
    assert f"episodes      {len(episodes)}\nsteps         500\n" in ran.out
    assert f"length        mean {episodes.lengths.mean():.2f}" in ran.out
    assert re.search(r"^speed +[\d,]+ steps a second\nseed +4\nsize on disk +[\d.]+ kB$", ran.out, re.MULTILINE)
    assert set(traces.to_arrow().column("worker").to_pylist()) == {0, 1}
    assert (traces.metadata["env_id"], traces.metadata["recorded_with"]["ray_workers"]) == ("CartPole-v1", 2)
    seeds = traces.stitched().to_arrow().column("reset_seed").to_pylist()
    assert len(set(seeds)) == len(seeds)
    replayed = run(None, tmp_path, "replay", "out")
    assert replayed.code == 0, replayed
    assert "are the same" in replayed.out


def test_a_model_sees_normalized_observations(cluster: Any, tmp_path: Path) -> None:
    normalize = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = A2C("MlpPolicy", normalize, device="cpu", seed=0)
    model.learn(40)
    model.save(tmp_path / "model")
    normalize.save(str(tmp_path / "vecnormalize.pkl"))
    options = ("--policy", tmp_path / "model.zip", "--deterministic", "--ray-workers", 2, "--n-envs", 2)
    ran = run(cluster, tmp_path, "record", "CartPole-v1", *options, "--episodes", 6, "--out", "out")
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


def test_a_function_of_a_file_goes_to_the_workers(cluster: Any, tmp_path: Path) -> None:
    code = """
        import numpy as np

        def right(observations):
            return ones(len(observations))

        def ones(count):
            return np.ones(count, dtype=int)
    """
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "steering.py").write_text(textwrap.dedent(code))
    policy = tmp_path / "policies" / "steering.py:right"
    options = ("--policy", policy, "--vec", "sync", "--ray-workers", 2, "--steps", 60, "--out", "out")
    ran = run(cluster, tmp_path, "record", "CartPole-v1", *options)
    assert (ran.code, ran.err) == (0, "")
    assert all((each.acts == 1).all() for each in open_traces(tmp_path / "out"))


def test_the_seed_repeats_a_recording(cluster: Any, tmp_path: Path) -> None:
    for name in ("one", "other"):
        options = ("--ray-workers", 2, "--n-envs", 2, "--steps", 120, "--seed", 7, "--out", name)
        assert run(cluster, tmp_path, "record", "CartPole-v1", *options).code == 0
    recorded = [
        sorted((each.obs.tobytes(), each.acts.tobytes()) for each in open_traces(tmp_path / name))
        for name in ("one", "other")
    ]
    assert recorded[0] == recorded[1]


def test_it_starts_ray_and_ctrl_c_keeps_everything(tmp_path: Path) -> None:
    """As in a terminal, the signal goes to all processes of the group."""
    variables = drivers.environment(None, HOME=str(tmp_path))
    options = ("--ray-workers", 2, "--n-envs", 2, "--episodes", 10**9, "--out", "out")
    process = drivers.start(["-m", "vecrollout", "record", "CartPole-v1", *options], tmp_path, variables)
    begin = time.monotonic()
    while not list(tmp_path.glob("out/*.arrow")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < drivers.LIMIT_S
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=drivers.LIMIT_S)
    assert process.returncode == 130, err
    assert err.splitlines() == ["vecrollout: interrupted; everything recorded so far is kept"]
    assert verify_traces(tmp_path / "out").ok
    traces = open_traces(tmp_path / "out")
    assert f"steps         {traces.total_steps:,}" in out
    running = [each for each in traces.stitched() if not (each.terminated or each.truncated)]
    assert len(running) == 4, "of each environment, its running episode"


def test_a_line_tells_how_far_it_is(cluster: Any, tmp_path: Path) -> None:
    import subprocess
    import sys

    master, slave = os.openpty()
    options = ["--ray-workers", "2", "--n-envs", "2", "--steps", "60000", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vecrollout", "record", "CartPole-v1", *options],
        cwd=tmp_path,
        env=drivers.environment(cluster, TERM="xterm", COLUMNS="200"),
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    shown: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(master, shown))
    reader.start()
    assert process.wait(timeout=drivers.LIMIT_S) == 0, shown
    reader.join()
    os.close(master)
    text = b"".join(shown).decode()
    progress = r"2 workers · [\d,]+ of 60,000 steps · [\d,]+ a second · [\d,]+ episodes"
    assert re.search(rf"{progress} · mean return \d+\.\d\d · 0 restarts", text), text


def read_all(master: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a terminal that was closed
        while block := os.read(master, 4096):
            shown.append(block)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames"], "frames: expected a recording without --ray-workers"),
        (["--device", "cuda"], "device: expected cpu with --ray-workers, got cuda"),
        (["--policy", "missing.zip"], "no file of this name"),
        (["--policy", "pendulum.zip"], "the model was trained in another environment"),
        (["--deterministic"], "deterministic: only for a model"),
        (["--env-arg", "gravity=1"], "gravity"),
    ],
)
def test_mistakes_are_one_line_before_ray_starts(tmp_path: Path, options: list[str], told: str) -> None:
    if "pendulum.zip" in options:
        A2C("MlpPolicy", "Pendulum-v1", device="cpu").save(tmp_path / "pendulum")
    arguments = ("record", "CartPole-v1", "--steps", 10, "--ray-workers", 2, "--out", "out", *options)
    # Nobody listens there, so that the attempt to connect would be another error.
    ran = run(None, tmp_path, *arguments, RAY_ADDRESS="127.0.0.1:1")
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("vecrollout: error: ")
    assert told in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["-1", "0", "two"])
def test_numbers_of_workers(tmp_path: Path, number: str) -> None:
    ran = run(None, tmp_path, "record", "CartPole-v1", "--steps", 10, "--out", "out", "--ray-workers", number)
    assert (ran.code, ran.out) == (2, "")
    assert "Invalid value for '--ray-workers'" in ran.err
    assert "Traceback" not in ran.err


def test_an_error_of_the_environment_is_one_line(cluster: Any, tmp_path: Path) -> None:
    code = """
        import gymnasium as gym
        from ticking import Ticking

        class Unlicensed(Ticking):
            def reset(self, **kwargs):
                raise ValueError("the simulator is not licensed")

        gym.register("Unlicensed-v0", Unlicensed)
    """
    (tmp_path / "unlicensed.py").write_text(textwrap.dedent(code))
    options = ("--steps", 10, "--out", "out", "--ray-workers", 2)
    ran = run(cluster, tmp_path, "record", "unlicensed:Unlicensed-v0", *options)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert re.fullmatch(r"vecrollout: error: worker [01]: ValueError: the simulator is not licensed", line)
