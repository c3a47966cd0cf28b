"""`vecrollout record`: what it records, with which policies and environments."""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from vecrollout import TraceDataset, open_traces
from vecrollout.cli.models import load_model

if TYPE_CHECKING:
    from conftest import Run


def test_each_environment_has_the_same_share_of_episodes(traces: TraceDataset) -> None:
    episodes = [each.episode for each in traces]
    assert Counter(each.env_index for each in episodes) == {0: 3, 1: 3, 2: 3, 3: 3}
    assert all(each.start_step == 0 and each.ended_by in ("terminated", "truncated") for each in episodes)


def test_remaining_episodes_go_to_the_first_environments(run: Run, tmp_path: Path) -> None:
    assert run("record", "CartPole-v1", "--n-envs", 3, "--episodes", 5, "--out", tmp_path).code == 0
    assert Counter(each.episode.env_index for each in open_traces(tmp_path)) == {0: 2, 1: 2, 2: 1}


def test_steps_are_counted_over_all_environments(run: Run, tmp_path: Path) -> None:
    ran = run("record", "CartPole-v1", "--n-envs", 4, "--steps", 10, "--out", tmp_path)
    assert ran.code == 0
    traces = open_traces(tmp_path)
    assert traces.total_steps == 12
    assert "steps         12" in ran.out


def test_the_summary_is_what_was_recorded(run: Run, tmp_path: Path) -> None:
    ran = run("record", "CartPole-v1", "--episodes", 4, "--seed", 5, "--out", tmp_path)
    lengths = open_traces(tmp_path).lengths
    assert "episodes      4" in ran.out
    assert f"steps         {lengths.sum()}" in ran.out
    assert f"mean {lengths.mean():.2f}" in ran.out
    assert "seed          5" in ran.out


def test_an_environment_with_its_own_vectorization(run: Run, tmp_path: Path) -> None:
    options = ("--vec", "own", "--n-envs", 3, "--episodes", 6, "--seed", 0)
    ran = run("record", "CartPole-v1", *options, "--out", tmp_path / "out")
    if not hasattr(gym.vector, "VectorWrapper"):
        assert "needs Gymnasium 1.0" in ran.error
        return
    assert ran.code == 0, ran.err
    assert Counter(each.episode.env_index for each in open_traces(tmp_path / "out")) == {0: 2, 1: 2, 2: 2}
    assert "one seed for all" in run("replay", tmp_path / "out").error
    assert "no vectorization of its own" in run("record", "Pendulum-v1", *options, "--out", tmp_path / "no").error


@pytest.mark.skipif(not hasattr(gym.vector, "VectorWrapper"), reason="needs Gymnasium 1.0")
@pytest.mark.filterwarnings("ignore:.*missing AutoresetMode metadata")
def test_what_cannot_be_recorded_overwrites_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv

    class Silent(CartPoleVectorEnv):
        metadata: ClassVar[dict[str, Any]] = {}  # does not say how it resets its environments

    spec = gym.envs.registration.EnvSpec("Silent-v0", entry_point=CartPoleEnv, vector_entry_point=Silent)
    monkeypatch.setitem(gym.registry, "Silent-v0", spec)
    assert run("record", "Silent-v0", "--steps", 10, "--out", tmp_path).code == 0
    ran = run("record", "Silent-v0", "--steps", 10, "--out", tmp_path, "--vec", "own", "--overwrite")
    assert "autoreset_mode" in ran.error
    assert open_traces(tmp_path).total_steps == 10


@pytest.mark.parametrize("vec", ["dummy", "sync"])
def test_a_seed_repeats_a_recording(run: Run, tmp_path: Path, vec: str) -> None:
    for name in ("one", "other"):
        options = ("--vec", vec, "--n-envs", 2, "--episodes", 4, "--seed", 7)
        assert run("record", "CartPole-v1", *options, "--out", tmp_path / name).code == 0
    one, other = open_traces(tmp_path / "one"), open_traces(tmp_path / "other")
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.obs, right.obs)
        np.testing.assert_array_equal(left.acts, right.acts)
    firsts = {tuple(each.obs[0]) for each in one}
    assert len(firsts) == 4, "each episode of each environment begins by a seed of its own"


def test_metadata_says_how_it_was_recorded(traces: TraceDataset) -> None:
    metadata = traces.metadata
    assert (metadata["env_id"], metadata["policy"]) == ("CartPole-v1", "random")
    assert metadata["recorded_with"]["seed"] == 3
    assert gym.make(gym.envs.registration.EnvSpec.from_json(traces.env_spec)).spec is not None


def test_every_episode_tells_its_seed(traces: TraceDataset) -> None:
    seeds = traces.to_arrow().column("reset_seed").to_pylist()
    assert len(set(seeds)) == len(traces)
    for trajectory, seed in zip(traces, seeds, strict=True):
        np.testing.assert_array_equal(gym.make("CartPole-v1").reset(seed=seed)[0], trajectory.obs[0])


@pytest.mark.parametrize("vec", ["dummy", "sync"])
def test_frames_show_each_state(run: Run, tmp_path: Path, vec: str) -> None:
    ran = run("record", "CartPole-v1", "--frames", "--vec", vec, "--episodes", 2, "--seed", 0, "--out", tmp_path)
    assert ran.code == 0
    traces = open_traces(tmp_path)
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    for trajectory, seed in zip(traces, traces.to_arrow()["reset_seed"].to_pylist(), strict=True):
        env.reset(seed=seed)
        np.testing.assert_array_equal(trajectory.infos[0]["first_frame"], env.render())
        assert not any("first_frame" in info for info in trajectory.infos[1:])
        for act, info in zip(trajectory.acts, trajectory.infos, strict=True):
            env.step(act)
            np.testing.assert_array_equal(info["frame"], env.render())


@pytest.mark.parametrize("place", ["steering:right", "steering.py:right", "steering:both_arguments"])
def test_functions_are_policies(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    code = """
        import numpy as np

        def right(observations):
            return np.ones(len(observations), dtype=int)

        def both_arguments(observations, states, episode_starts):
            return right(observations), states
    """
    (tmp_path / "steering.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    assert run("record", "CartPole-v1", "--policy", place, "--episodes", 2, "--out", "out").code == 0
    assert all((each.acts == 1).all() for each in open_traces("out"))


@pytest.mark.parametrize("name", ["json", "random", "vecrollout"])
def test_a_file_named_like_a_library(run: Run, tmp_path: Path, name: str) -> None:
    """It takes the place of none, in the program as in the file itself."""
    library = sys.modules[name]
    code = f"""
        import dataclasses

        import {name}

        @dataclasses.dataclass
        class Constant:
            action: int

            def __call__(self, observations, states, episode_starts):
                return [self.action] * len(observations), states

        constant = Constant(int(hasattr({name}, "__path__") or hasattr({name}, "Random")))
    """
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    policy = f"{tmp_path / name}.py:constant"
    assert run("record", "CartPole-v1", "--policy", policy, "--episodes", 2, "--out", tmp_path / "out").code == 0
    assert sys.modules[name] is library
    assert all((each.acts == 1).all() for each in open_traces(tmp_path / "out"))


def test_a_policy_that_fails_loses_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
        calls = []

        def act(observations):
            calls.append(1)
            if len(calls) > 7:
                raise RuntimeError("no more")
            return [1]
    """
    (tmp_path / "failing.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="no more"):
        run("record", "CartPole-v1", "--policy", "failing.py:act", "--steps", 100, "--out", "out")
    assert open_traces("out").total_steps == 7


def test_a_line_tells_how_far_it_is(on_terminal: Callable[..., str], tmp_path: Path) -> None:
    text = on_terminal("record", "CartPole-v1", "--n-envs", 2, "--steps", 5000, "--out", tmp_path)
    assert re.search(r"[\d,]+ steps · [\d,]+ a second · [\d,]+ episodes · mean return \d+\.\d\d · [\d.,]+ \w+", text)


def test_arguments_go_to_the_environment(run: Run, tmp_path: Path) -> None:
    options = ("--env-arg", "g=1.5", "--env-arg", "render_mode=rgb_array")
    assert run("record", "Pendulum-v1", *options, "--steps", 5, "--out", tmp_path).code == 0
    (trajectory,) = open_traces(tmp_path)
    env = gym.make("Pendulum-v1", g=1.5)
    np.testing.assert_array_equal(env.reset(seed=trajectory.episode.seed)[0], trajectory.obs[0])
    np.testing.assert_array_equal(env.step(trajectory.acts[0])[0], trajectory.obs[1])


class Masked(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = 5
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self._left -= 1
        return np.zeros(2, np.float32), 0.0, not self._left, False, {}

    def action_masks(self) -> Any:
        return np.array([False, True, False])


ALGORITHMS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "PPO": (stable_baselines3.PPO, "MlpPolicy", "CartPole-v1", {}),
    "A2C": (stable_baselines3.A2C, "MlpPolicy", "CartPole-v1", {}),
    "DQN": (stable_baselines3.DQN, "MlpPolicy", "CartPole-v1", {"buffer_size": 10}),
    "SAC": (stable_baselines3.SAC, "MlpPolicy", "Pendulum-v1", {"buffer_size": 10}),
    "TD3": (stable_baselines3.TD3, "MlpPolicy", "Pendulum-v1", {"buffer_size": 10}),
    "DDPG": (stable_baselines3.DDPG, "MlpPolicy", "Pendulum-v1", {"buffer_size": 10}),
    "RecurrentPPO": (sb3_contrib.RecurrentPPO, "MlpLstmPolicy", "CartPole-v1", {}),
    "TRPO": (sb3_contrib.TRPO, "MlpPolicy", "CartPole-v1", {}),
    "QRDQN": (sb3_contrib.QRDQN, "MlpPolicy", "CartPole-v1", {"buffer_size": 10}),
    "TQC": (sb3_contrib.TQC, "MlpPolicy", "Pendulum-v1", {"buffer_size": 10}),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_models_are_loaded_by_their_class(run: Run, tmp_path: Path, name: str) -> None:
    cls, policy, env_id, options = ALGORITHMS[name]
    model = cls(policy, env_id, device="cpu", **options)
    model.save(tmp_path / "model")
    assert type(load_model(tmp_path / "model.zip", None, "cpu")) is cls

    options = ("--deterministic", "--steps", 4, "--seed", 0, "--out", tmp_path / "out")
    ran = run("record", env_id, "--policy", tmp_path / "model", *options)
    assert ran.code == 0, ran.err
    (trajectory,) = open_traces(tmp_path / "out")
    obs, state = trajectory.obs, None
    for step in range(4):
        starts = np.array([step == 0])
        act, state = model.predict(obs[step][None], state=state, episode_start=starts, deterministic=True)
        np.testing.assert_allclose(trajectory.acts[step], act[0], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*env.action_masks to get variables")  # SB3 2.2 with Gymnasium 0.29
def test_a_maskable_model_acts_under_masks(run: Run, tmp_path: Path) -> None:
    gym.register("Masked-v0", Masked)
    try:
        sb3_contrib.MaskablePPO("MlpPolicy", Masked(), device="cpu").save(tmp_path / "model")
        options = ("--policy", tmp_path / "model.zip", "--n-envs", 2, "--episodes", 4, "--out", tmp_path / "out")
        assert run("record", "Masked-v0", *options).code == 0
    finally:
        del gym.registry["Masked-v0"]
    assert all((each.acts == 1).all() for each in open_traces(tmp_path / "out"))


@pytest.mark.parametrize("place", ["vecnormalize.pkl", "CartPole-v1/vecnormalize.pkl", "given.pkl"])
def test_a_model_sees_normalized_observations_and_raw_ones_are_recorded(run: Run, tmp_path: Path, place: str) -> None:
    normalize = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = stable_baselines3.A2C("MlpPolicy", normalize, device="cpu", seed=0)
    model.learn(40)
    model.save(tmp_path / "model")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    normalize.save(str(tmp_path / place))
    options = ["--policy", tmp_path / "model.zip", "--deterministic", "--seed", 0, "--steps", 20]
    options += ["--normalize", tmp_path / place] if place == "given.pkl" else []
    assert run("record", "CartPole-v1", *options, "--out", tmp_path / "out").code == 0
    normalize.training = False
    for each in open_traces(tmp_path / "out"):
        assert np.abs(each.obs[0]).max() <= 0.05, "raw"
        seen = normalize.normalize_obs(each.obs[:-1])
        np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], each.acts)


def test_atari_games_are_wrapped_as_the_zoo_does(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    ran = run("record", "PongNoFrameskip-v4", "--n-envs", 2, "--steps", 12, "--seed", 1, "--out", tmp_path)
    assert ran.code == 0, ran.err
    traces = open_traces(tmp_path)
    assert traces[0].obs.shape[1:] == (84, 84, 4)
    assert traces[0].obs.dtype == np.uint8
    assert not traces[0].obs[0, ..., :3].any(), "the stack begins with zeros"
    assert run("replay", tmp_path).code == 0
