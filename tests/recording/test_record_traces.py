"""`record_traces`: environments of each kind, to disk by one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from vecrollout import BufferingWrapper, TraceRecordingWrapper, VectorBufferingWrapper, open_traces, record_traces
from vecrollout.errors import ArgumentTypeError, OptionError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, assert_same

SCRIPTS = [[EpisodeScript(3), EpisodeScript(2, "truncated")], [EpisodeScript(4)]]


def env_fns() -> list[Any]:
    return [lambda e=e: CountingEnv("dict", SCRIPTS[e], first=100 * e, stride=10) for e in range(2)]


def run_vec_env(directory: Path, kind: Any = DummyVecEnv, **options: Any) -> Any:
    venv = record_traces(kind(env_fns()), directory, **options)
    venv.seed(7)
    venv.reset()
    for _ in range(9):
        venv.step(np.zeros(2, dtype=int))
    venv.close()
    return venv


def run_vector_env(directory: Path, **options: Any) -> Any:
    env: Any = record_traces(gym.vector.SyncVectorEnv(env_fns()), directory, **options)
    env.reset(seed=7)
    for _ in range(9):
        env.step(np.zeros(2, dtype=int))
    env.close()
    return env


def assert_counts(directory: Path, env: int, lengths: list[int]) -> None:
    """The environment's episodes are there, and everything counts."""
    traces = [each for each in open_traces(directory) if each.episode.env_index == env]
    assert [len(each) for each in traces] == lengths
    for k, each in enumerate(traces):
        assert each.rews.tolist() == [100 * env + 10 * k + t + 1.5 for t in range(len(each))]  # type: ignore[attr-defined]
        assert each.infos is not None
        assert [info["t"] for info in each.infos] == list(range(1, len(each) + 1))
        assert each.episode.seed == (7 + env if k == 0 else None)
        assert each.episode.reset_info is not None
        assert each.episode.reset_info["episode"] == k


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_a_vec_env(kind: Any, tmp_path: Path) -> None:
    venv = run_vec_env(tmp_path, kind, metadata={"of": "test"}, episode_metadata=lambda each: {"steps": len(each)})
    assert isinstance(venv, BufferingWrapper)
    assert venv.directory == tmp_path
    assert_counts(tmp_path, 0, [3, 2, 3, 1])
    assert_counts(tmp_path, 1, [4, 4, 1])
    traces = open_traces(tmp_path)
    assert [each.episode.ended_by for each in traces].count("closed") == 2
    assert traces.about(0)["spaces"] == (venv.observation_space, venv.action_space)
    assert traces.about(0)["metadata"] == {"of": "test"}
    assert [traces.metadata_of(n) for n in range(len(traces))] == [{"steps": len(each)} for each in traces]


def test_a_vector_env(tmp_path: Path) -> None:
    env = run_vector_env(tmp_path)
    assert isinstance(env, VectorBufferingWrapper)
    assert env.directory == tmp_path
    # With next-step autoreset, a reset takes a step.
    takes_steps = env.autoreset.name == "NEXT_STEP"
    assert_counts(tmp_path, 0, [3, 2, 2] if takes_steps else [3, 2, 3, 1])
    assert_counts(tmp_path, 1, [4, 4] if takes_steps else [4, 4, 1])
    spaces = open_traces(tmp_path).about(0)["spaces"]
    assert spaces == (env.single_observation_space, env.single_action_space)


def test_a_single_env(tmp_path: Path) -> None:
    with record_traces(CountingEnv(), tmp_path, frame_filter=lambda step: step != 1, compression=None) as env:
        assert isinstance(env, TraceRecordingWrapper)
        env.reset()
        for _ in range(3):
            env.step(0)
    traces = open_traces(tmp_path)
    assert [len(each) for each in traces] == [1, 1]
    assert traces.about(0)["compression"] is None


@pytest.mark.parametrize("run", [run_vec_env, run_vector_env])
def test_filters_and_bounded_memory(run: Any, tmp_path: Path) -> None:
    """The same steps as of a recording of everything, but for those that are left out."""
    run(tmp_path / "all")
    options = {"episode_filter": lambda k: k != 1, "frame_filter": lambda step: step != 1, "max_transitions": 4}
    env = run(tmp_path / "some", **options)
    steps: list[list[Any]] = []
    for name in ("all", "some"):
        fragments: Any = open_traces(tmp_path / name)
        steps.append(
            [
                (
                    each.episode.id,
                    each.episode.start_step + i,
                    each.obs[i],
                    each.obs[i + 1],
                    each.rews[i],
                    each.infos[i],
                )
                for each in fragments
                for i in range(len(each))
            ]
        )
    kept = [step for step in steps[0] if step[0] != 1 and step[1] != 1]
    assert_same(steps[1], kept)
    assert env.stepped == env.sunk
    assert open_traces(tmp_path / "some").about(0)["metadata"] == {"steps_filtered": True}


def test_below_vec_normalize_the_raw_data(tmp_path: Path) -> None:
    venv = VecNormalize(record_traces(make_vec_env("CartPole-v1", n_envs=2, seed=0), tmp_path))
    twin = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    venv.reset()
    first = twin.reset()
    venv.step(np.array([0, 1]))
    obs, *_ = twin.step(np.array([0, 1]))
    venv.close()
    for env, each in enumerate(open_traces(tmp_path)):
        assert_same(each.obs, np.stack([first[env], obs[env]]))


def env_ids(directory: Path) -> set[str]:
    traces = open_traces(directory)
    specs = {traces.about(n)["env_spec"] for n in range(len(traces))}
    return {gym.envs.registration.EnvSpec.from_json(spec).id for spec in specs}


def test_the_environments_spec(tmp_path: Path) -> None:
    """Of a VecEnv, of a VectorEnv, and of one without a spec."""
    venv = record_traces(make_vec_env("CartPole-v1", n_envs=2), tmp_path / "vec")
    venv.reset()
    venv.step(np.array([0, 1]))
    venv.close()
    assert env_ids(tmp_path / "vec") == {"CartPole-v1"}
    env: Any = record_traces(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2), tmp_path / "vector")
    env.reset()
    env.step(np.array([0, 1]))
    env.close()
    assert env_ids(tmp_path / "vector") == {"CartPole-v1"}
    run_vec_env(tmp_path / "none")
    assert open_traces(tmp_path / "none").about(0)["env_spec"] is None


def test_a_spec_that_is_no_json(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    assert env.spec is not None
    env.unwrapped.spec = gym.envs.registration.EnvSpec("Own-v0", kwargs={"reward": lambda obs: 0.0})
    with record_traces(env.unwrapped, tmp_path) as recorder:
        recorder.reset()
        recorder.step(0)
    assert open_traces(tmp_path).about(0)["env_spec"] == "Own-v0"


def test_what_is_no_environment_or_no_option(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="got list"):
        record_traces([], tmp_path)  # type: ignore[call-overload]
    for env in (CountingEnv(), DummyVecEnv(env_fns())):
        with pytest.raises(OptionError, match="autoreset_mode: only for a VectorEnv"):
            record_traces(env, tmp_path, autoreset_mode="next_step")
    for options in ({"max_transitions": 1}, {"record_infos": "some"}, {"reward_classes": []}):
        with pytest.raises(OptionError, match=next(iter(options))):
            record_traces(DummyVecEnv(env_fns()), tmp_path, **options)
    for env in (CountingEnv(), DummyVecEnv(env_fns()), gym.vector.SyncVectorEnv(env_fns())):
        with pytest.raises(ArgumentTypeError, match="mean 'compression'"):
            record_traces(env, tmp_path / "none", compresion=None)
        with pytest.raises(ArgumentTypeError, match="directory"):
            record_traces(env, 5)  # type: ignore[call-overload]
        for options in ({}, {"frame_filter": bool}):
            with pytest.raises(ArgumentTypeError, match="metadata: expected a dict"):
                record_traces(env, tmp_path / "none", metadata=[7], **options)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()
    with pytest.raises(OptionError, match="missing_final_obs"):
        record_traces(gym.vector.SyncVectorEnv(env_fns()), tmp_path, missing_final_obs="guess")


KINDS = [CountingEnv, lambda: DummyVecEnv(env_fns()), lambda: gym.vector.SyncVectorEnv(env_fns())]


@pytest.mark.parametrize("make", KINDS)
def test_twice(make: Any, tmp_path: Path) -> None:
    """To the same directory each step would go twice; to another one it is wanted."""
    env = record_traces(make(), tmp_path / "once")
    with pytest.raises(ProtocolError, match="once"):
        record_traces(env, tmp_path / "once")
    record_traces(env, tmp_path / "other").close()


def test_writers_of_another_kind_are_no_recorders(tmp_path: Path) -> None:
    """A wrapper of somebody else's may have what looks like a recorder's."""
    env = gym.Wrapper(CountingEnv())
    env._writer = env.directory = tmp_path  # type: ignore[attr-defined]
    record_traces(env, tmp_path).close()


@pytest.mark.parametrize("make", KINDS)
def test_nothing_is_recorded_to_a_closed_trace(make: Any, tmp_path: Path) -> None:
    """A reset says so, before steps are taken that would go nowhere."""
    env = record_traces(make(), tmp_path)
    env.reset()
    env.close()
    with pytest.raises(ProtocolError, match="closed"):
        env.step(np.zeros(2, dtype=int))
    with pytest.raises(ProtocolError, match="closed"):
        env.reset()


@pytest.mark.parametrize("make", KINDS)
def test_a_flush_makes_the_finished_episodes_durable(make: Any, tmp_path: Path) -> None:
    env = record_traces(make(), tmp_path)
    env.restart()
    for _ in range(4):
        env.advance(np.zeros(1 if isinstance(env, TraceRecordingWrapper) else 2, int))
    env.flush()
    assert env.directory == tmp_path
    assert sum(map(len, open_traces(tmp_path))) == env.delivered > 0
    assert env.stepped == env.delivered + env.held
    env.close()
    assert sum(map(len, open_traces(tmp_path))) == env.delivered == env.stepped


def test_a_flush_without_a_writer() -> None:
    with pytest.raises(ProtocolError, match="flush its sink"):
        BufferingWrapper(DummyVecEnv(env_fns()), sink=[]).flush()
