"""`TraceCallback`: what algorithms train on, and that they train as without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import ARS, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from vecrollout import BufferingWrapper, TraceCallback, open_traces, stitch, verify_traces
from vecrollout.errors import ArgumentTypeError, MissingTerminalObservationError, OptionError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, ScriptedError, assert_same

SMALL: dict[str, Any] = {"seed": 3, "device": "cpu"}
OFF_POLICY = {**SMALL, "learning_starts": 40, "train_freq": 8, "batch_size": 16, "buffer_size": 1000}


def continuous() -> gym.Env[Any, Any]:
    """Actions of 2 to 5, so that those of a policy, around 0, are clipped or rescaled."""

    class Shifted(CountingEnv):
        def __init__(self) -> None:
            super().__init__("box", [EpisodeScript(9), EpisodeScript(4, "truncated")], stride=20)
            self.action_space = gym.spaces.Box(2.0, 5.0, (2,))

    return Shifted()


def discrete() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1", max_episode_steps=15)


ALGORITHMS: dict[str, tuple[Callable[[VecEnv], BaseAlgorithm], Callable[[], gym.Env[Any, Any]]]] = {
    "PPO": (lambda env: PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=2, **SMALL), discrete),
    "PPO continuous": (lambda env: PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=2, **SMALL), continuous),
    "A2C": (lambda env: A2C("MlpPolicy", env, **SMALL), discrete),
    "A2C continuous": (lambda env: A2C("MlpPolicy", env, use_sde=True, **SMALL), continuous),
    "DQN": (lambda env: DQN("MlpPolicy", env, **OFF_POLICY), discrete),
    "SAC": (lambda env: SAC("MlpPolicy", env, **OFF_POLICY), continuous),
    "TD3": (lambda env: TD3("MlpPolicy", env, **OFF_POLICY), continuous),
    "RecurrentPPO": (
        lambda env: RecurrentPPO("MlpLstmPolicy", env, n_steps=16, batch_size=16, n_epochs=2, **SMALL),
        discrete,
    ),
}
STEPS = 96


def envs(env_fn: Callable[[], gym.Env[Any, Any]], kind: Any = DummyVecEnv) -> VecEnv:
    return make_vec_env(env_fn, n_envs=2, seed=5, vec_env_cls=kind)


class Spy(BaseCallback):
    """What a callback sees of the policy at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        names = ("actions", "buffer_actions", "values", "log_probs")
        found = {name: self.locals[name] for name in names if name in self.locals}
        self.seen.append({name: torch.as_tensor(each).detach().numpy().copy() for name, each in found.items()})
        return True


def assert_same_weights(left: BaseAlgorithm, right: BaseAlgorithm) -> None:
    expected = right.policy.state_dict()
    for name, weights in left.policy.state_dict().items():
        assert torch.equal(weights, expected[name]), name


def of_environments(trajectories: Any, envs: int = 2) -> list[Any]:
    """Of each environment all steps in a row, the infos without the policy's part of them."""
    rows: list[Any] = [[] for _ in range(envs)]
    for each in sorted(trajectories, key=lambda each: (each.episode.id, each.episode.start_step)):
        for i in range(len(each)):
            info = {key: value for key, value in each.infos[i].items() if not key.startswith("policy_")}
            if "episode" in info:
                info["episode"] = {"r": info["episode"]["r"], "l": info["episode"]["l"]}  # without the time
            is_last = i == len(each) - 1
            flags = (
                is_last and each.terminated,
                is_last and each.truncated,
                each.episode.ended_by if is_last else None,
            )
            rows[each.episode.env_index].append((each.obs[i], each.acts[i], each.rews[i], each.obs[i + 1], flags, info))
    return rows


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
def test_records_what_an_algorithm_trains_on(name: str, normalized: bool, tmp_path: Path) -> None:
    """The same as a recorder around the environments, below the normalisation; and the weights are the same."""
    algorithm, env_fn = ALGORITHMS[name]

    def trained(venv: VecEnv, callback: BaseCallback | None) -> BaseAlgorithm:
        model = algorithm(VecNormalize(venv, clip_obs=0.5) if normalized else venv)
        return model.learn(STEPS, callback=callback)

    spy = Spy()
    model = trained(envs(env_fn), CallbackList([TraceCallback(tmp_path), spy]))
    recorder = BufferingWrapper(envs(env_fn), error_on_premature_reset=False)
    twin = trained(recorder, None)
    assert_same_weights(model, twin)
    assert_same_weights(model, trained(envs(env_fn), None))

    assert verify_traces(tmp_path).ok
    traces = open_traces(tmp_path)
    recorder.close()
    got, expected = of_environments(traces), of_environments(recorder.pop_trajectories()[0])
    assert_same(got, expected)
    assert sum(map(len, got)) == model.num_timesteps

    # What the policy said, in the order of the steps.
    said: list[Any] = [[], []]
    for each in sorted(traces, key=lambda each: each.episode.id or 0):
        said[each.episode.env_index or 0].extend(infos_of(each))
    key = "buffer_actions" if "buffer_actions" in spy.seen[0] else "actions"
    for step, seen in enumerate(spy.seen):
        for env in range(2):
            assert_same(said[env][step]["policy_action"], seen[key][env])
            for column, name_ in (("policy_value", "values"), ("policy_log_prob", "log_probs")):
                assert (column in said[env][step]) == (name_ in seen)
                if name_ in seen:
                    assert_same(said[env][step][column], seen[name_].reshape(2)[env])
    names = {column for shard in tmp_path.glob("*.arrow") for column in column_names(shard)}
    assert "info.policy_action" in names
    assert ("info.policy_value" in names) == ("values" in spy.seen[0])


def infos_of(trajectory: Any) -> list[dict[str, Any]]:
    return list(trajectory.infos)


def column_names(shard: Path) -> list[str]:
    pyarrow = pytest.importorskip("pyarrow")
    names: list[str] = pyarrow.ipc.open_file(shard).schema.names
    return names


def test_an_algorithm_that_runs_whole_episodes_between_calls(tmp_path: Path) -> None:
    """All of its steps, and nothing of the policy, which it does not tell."""
    model = ARS("LinearPolicy", envs(discrete), n_delta=2, **SMALL).learn(STEPS, TraceCallback(tmp_path))
    traces = open_traces(tmp_path)
    assert sum(map(len, traces)) == model.num_timesteps
    assert not any("policy_action" in info for each in traces for info in infos_of(each))


def test_learning_for_the_first_time_as_if_it_went_on(tmp_path: Path) -> None:
    model = A2C("MlpPolicy", DummyVecEnv([continuous]), **SMALL)
    model.learn(5, TraceCallback(tmp_path), reset_num_timesteps=False)
    assert [each.episode.start_step for each in open_traces(tmp_path)] == [0]


def test_actions_are_the_executed_ones(tmp_path: Path) -> None:
    ALGORITHMS["PPO continuous"][0](envs(continuous)).learn(STEPS, TraceCallback(tmp_path))
    for each in open_traces(tmp_path):
        assert isinstance(each.acts, np.ndarray)
        assert each.acts.min() >= 2.0
        assert min(info["policy_action"].min() for info in infos_of(each)) < 2.0


def test_in_subprocesses(tmp_path: Path) -> None:
    venv = envs(discrete, SubprocVecEnv)
    ALGORITHMS["A2C"][0](venv).learn(STEPS, TraceCallback(tmp_path))
    venv.close()
    twin = BufferingWrapper(envs(discrete), error_on_premature_reset=False)
    ALGORITHMS["A2C"][0](twin).learn(STEPS)
    twin.close()
    got, expected = of_environments(open_traces(tmp_path)), of_environments(twin.pop_trajectories()[0])
    for rows, theirs in zip(got, expected, strict=True):
        assert_same([row[:2] for row in rows], [row[:2] for row in theirs])


@pytest.mark.parametrize("name", ["A2C", "DQN"])
def test_images_as_the_environment_gives_them(name: str, tmp_path: Path) -> None:
    """SB3 puts `VecTransposeImage` around them by itself."""

    class Frames(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(0, 255, (40, 36, 3), np.uint8)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.t = 0
            return self.frame(), {}

        def step(self, action: Any) -> Any:
            self.t += 1
            return self.frame(), 0.0, False, self.t == 7, {}

        def frame(self) -> Any:
            return np.arange(40 * 36 * 3, dtype=np.uint8).reshape(40, 36, 3) + np.uint8(self.t)

    model = (A2C if name == "A2C" else DQN)(
        "CnnPolicy", DummyVecEnv([Frames]), **(OFF_POLICY if name == "DQN" else SMALL)
    )
    model.learn(40, TraceCallback(tmp_path))
    traces = open_traces(tmp_path)
    assert [len(each) for each in traces] == [7, 7, 7, 7, 7, 5]
    for each in traces:
        frames = [np.arange(40 * 36 * 3, dtype=np.uint8).reshape(40, 36, 3) + np.uint8(t) for t in range(len(each) + 1)]
        assert_same(each.obs, np.stack(frames))
    assert traces.about(0)["spaces"][0] == Frames.observation_space


def test_dict_observations_and_stacked_frames(tmp_path: Path) -> None:
    def env_fn() -> gym.Env[Any, Any]:
        image, vector = gym.spaces.Box(0, 255, (40, 36, 3), np.uint8), gym.spaces.Box(0, 256, (2,))
        return CountingEnv(gym.spaces.Dict({"image": image, "vector": vector}), [EpisodeScript(6)], first=1)

    model = PPO("MultiInputPolicy", VecNormalize(envs(env_fn), norm_obs=False), n_steps=16, batch_size=16, **SMALL)
    model.learn(32, TraceCallback(tmp_path / "dict"))
    (expected,) = open_traces(tmp_path / "dict")[:1]
    recorder = BufferingWrapper(envs(env_fn))
    recorder.reset()
    for acts in expected.acts:
        recorder.step(np.array([acts, acts]))
    assert_same(expected.obs, recorder.pop_trajectories()[0][0].obs)

    A2C("MlpPolicy", VecFrameStack(envs(discrete), 3), **SMALL).learn(20, TraceCallback(tmp_path / "stacked"))
    assert open_traces(tmp_path / "stacked")[0].obs.shape[1:] == (12,)


def test_about_and_seeds(tmp_path: Path) -> None:
    model = ALGORITHMS["A2C"][0](envs(discrete))
    model.learn(20, TraceCallback(tmp_path, metadata={"run": 1}, compression=None))
    traces = open_traces(tmp_path)
    about = traces.about(0)
    assert about["metadata"] == {"algorithm": "A2C", "seed": 3, "run": 1}
    assert gym.envs.registration.EnvSpec.from_json(about["env_spec"]).id == "CartPole-v1"
    assert about["compression"] is None
    assert traces[0].episode.reset_info == {}


def test_learning_twice(tmp_path: Path) -> None:
    """The second time in the middle of episodes: the two parts of each follow on each other."""
    callback = TraceCallback(tmp_path)
    model = ALGORITHMS["PPO"][0](envs(continuous))
    model.learn(32, callback)
    first = list(open_traces(tmp_path))
    assert [each.episode.ended_by for each in first].count("closed") == 2
    model.learn(32, callback, reset_num_timesteps=False)
    assert verify_traces(tmp_path).ok
    second = list(open_traces(tmp_path))[len(first) :]
    for env in range(2):
        left = [each for each in first if each.episode.env_index == env][-1]
        right = next(each for each in second if each.episode.env_index == env)
        assert (left.episode.ended_by, len(left)) == ("closed", 16 - 9 - 4)
        assert right.episode.start_step == len(left)
        assert_same(left.obs[-1], right.obs[0])
        assert right.terminated
    twin = ALGORITHMS["PPO"][0](envs(continuous))
    twin.learn(32)
    twin.learn(32, reset_num_timesteps=False)
    assert_same_weights(model, twin)


def test_learning_again_from_the_beginning(tmp_path: Path) -> None:
    callback = TraceCallback(tmp_path)
    model = ALGORITHMS["A2C"][0](envs(discrete))
    for _ in range(2):
        model.learn(20, callback)
    traces = list(open_traces(tmp_path))
    assert sum(map(len, traces)) == 40
    assert {each.episode.start_step for each in traces} == {0}


def test_in_the_middle_of_an_episode_whose_steps_nobody_counted(tmp_path: Path) -> None:
    model = A2C("MlpPolicy", DummyVecEnv([continuous]), **SMALL)
    model.learn(5)
    model.learn(5, TraceCallback(tmp_path), reset_num_timesteps=False)
    assert [(each.episode.start_step, len(each)) for each in open_traces(tmp_path)] == [(1, 4), (0, 1)]


def test_beside_an_evaluation(tmp_path: Path) -> None:
    """Which compares its environment's wrappers with those of the training environment; its steps are not recorded."""
    weights = []
    for callbacks in ([], [TraceCallback(tmp_path)]):
        model = ALGORITHMS["PPO"][0](VecNormalize(envs(discrete)))
        evaluation = EvalCallback(
            VecNormalize(envs(discrete), training=False), eval_freq=8, n_eval_episodes=2, verbose=0, warn=True
        )
        weights.append(model.learn(STEPS, CallbackList([*callbacks, evaluation])))
    assert_same_weights(*weights)
    assert sum(map(len, open_traces(tmp_path))) == STEPS


@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
@pytest.mark.parametrize("is_before", [True, False])
def test_an_evaluation_of_the_same_environments(is_before: bool, tmp_path: Path) -> None:
    """Its steps are theirs, too, and the policy's part of the training is not taken for one of them."""

    class Told(BaseCallback):
        def _on_step(self) -> bool:
            told.append((self.locals["infos"][0]["t"], self.training_env.envs[0].unwrapped._number))  # type: ignore[attr-defined]
            values[told[-1]] = self.locals["values"][0].item()
            return True

    told: list[Any] = []
    values: dict[Any, float] = {}
    venv = DummyVecEnv([lambda: CountingEnv("box", [EpisodeScript(6)], stride=10)])
    model = A2C("MlpPolicy", venv, **SMALL)
    evaluation, trace = (
        EvalCallback(venv, eval_freq=4, n_eval_episodes=2, verbose=0, warn=False),
        TraceCallback(tmp_path),
    )
    model.learn(20, CallbackList([Told(), evaluation, trace] if is_before else [Told(), trace, evaluation]))
    infos = [
        (np.asarray(each.obs)[i + 1, 0], info)
        for each in open_traces(tmp_path)
        for i, info in enumerate(infos_of(each))
    ]
    assert len(infos) > 20 + 5 * 2 * 5
    got = {(info["t"], number): info["policy_value"] for number, info in infos if "policy_value" in info}
    assert len(got) >= 15
    for step, value in got.items():
        assert value == pytest.approx(values[step])


@pytest.mark.parametrize("end", ["stop", "interrupt", "interrupt and close"])
@pytest.mark.parametrize("is_another", [False, True])
def test_training_that_goes_on_after_a_step_that_the_algorithm_did_not_see(
    end: str, is_another: bool, tmp_path: Path
) -> None:
    """A callback ended it: the algorithm has the observation before, the environment the one after."""

    class Ends(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 4 and end != "stop":
                raise KeyboardInterrupt
            return self.n_calls < 4

    callback = TraceCallback(tmp_path)
    model = A2C("MlpPolicy", DummyVecEnv([lambda: Monitor(continuous())]), **SMALL)
    with pytest.raises(KeyboardInterrupt) if end != "stop" else nullcontext():
        model.learn(20, CallbackList([Ends(), callback]))
    if end == "interrupt and close":
        callback.close()
    model.learn(5, TraceCallback(tmp_path) if is_another else callback, reset_num_timesteps=False)
    callback.close()
    traces = open_traces(tmp_path)
    assert [(each.episode.start_step, len(each), each.episode.ended_by) for each in traces] == [
        (0, 4, "closed"),
        (4, 5, "terminated"),
    ]
    assert [np.asarray(each.obs)[:, 0].tolist() for each in traces] == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8, 9]]


def test_training_that_goes_on_after_a_reset(tmp_path: Path) -> None:
    """What the environments returned before it is over."""
    model = A2C("MlpPolicy", DummyVecEnv([lambda: Monitor(continuous())]), **SMALL)
    model.learn(5, TraceCallback(tmp_path))
    model.set_env(model.get_env())
    model.learn(5, TraceCallback(tmp_path), reset_num_timesteps=False)
    assert [np.asarray(each.obs)[:, 0].tolist() for each in open_traces(tmp_path)] == [
        [0, 1, 2, 3, 4, 5],
        [20, 21, 22, 23, 24],
        [40, 41],
    ]


def test_infos_by_name_and_none(tmp_path: Path) -> None:
    policys = {"policy_action", "policy_value", "policy_log_prob"}
    for name, record_infos, kept in (("none", "none", set()), ("some", ["t"], {"t"})):
        model = ALGORITHMS["PPO continuous"][0](envs(continuous))
        model.learn(32, TraceCallback(tmp_path / name, record_infos=record_infos))
        for each in open_traces(tmp_path / name):
            assert all(set(info) == policys | kept for info in infos_of(each))


def test_memory_is_bounded(tmp_path: Path) -> None:
    ALGORITHMS["PPO continuous"][0](envs(continuous)).learn(32, TraceCallback(tmp_path, max_transitions=4))
    traces = open_traces(tmp_path)
    assert max(map(len, traces)) == 2
    whole = stitch(traces[number] for number in traces.episodes()[0])
    assert (len(whole), whole.terminated) == (9, True)


def test_training_that_fails(tmp_path: Path) -> None:
    """What came before is there, once the callback is closed, or another one records the same environments."""
    for number in range(2):
        base = DummyVecEnv([continuous])
        model = A2C("MlpPolicy", base, **SMALL)
        callback = TraceCallback(tmp_path / str(number))

        class Fails(BaseCallback):
            def _on_step(self) -> bool:
                if self.n_calls == 7:
                    self.training_env.envs[0].unwrapped.fail_next = True  # type: ignore[attr-defined]
                return True

        with pytest.raises(ScriptedError):
            model.learn(50, CallbackList([callback, Fails()]))
        if number:
            model.learn(5, TraceCallback(tmp_path / "other"))
            assert sum(map(len, open_traces(tmp_path / "other"))) == 5
        else:
            callback.close()
            callback.close()
            base.reset()
            base.step([model.action_space.sample()])
        assert not {"reset", "step_async", "step_wait"} & set(vars(base))
        assert verify_traces(tmp_path / str(number)).ok
        (trajectory,) = open_traces(tmp_path / str(number))
        # To learn again, the environments are reset first.
        assert (len(trajectory), trajectory.episode.ended_by) == (7, "reset_early" if number else "closed")


def test_a_reset_in_mid_training(tmp_path: Path) -> None:
    class Resets(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 3:
                self.model._last_obs = self.training_env.reset()
            return True

    A2C("MlpPolicy", DummyVecEnv([continuous]), **SMALL).learn(5, CallbackList([Resets(), TraceCallback(tmp_path)]))
    traces = open_traces(tmp_path)
    assert [(len(each), each.episode.ended_by) for each in traces] == [(3, "reset_early"), (2, "closed")]
    # The third step was over before the policy's part of it was heard of.
    assert ["policy_action" in info for info in infos_of(traces[0])] == [True, True, False]


def test_a_flush_in_mid_training(tmp_path: Path) -> None:
    recording = TraceCallback(tmp_path, flush_every_s=None)
    found = []

    class Flushes(BaseCallback):
        def _on_step(self) -> bool:
            recording.flush()
            found.append([len(each) for each in open_traces(tmp_path)])
            return True

    with pytest.raises(ProtocolError, match="during `learn`"):
        recording.flush()
    A2C("MlpPolicy", DummyVecEnv([Widening]), **SMALL).learn(5, CallbackList([recording, Flushes()]))
    assert found == [[], [], [3], [3], [3]]
    assert [len(each) for each in open_traces(tmp_path)] == [3, 2]
    with pytest.raises(ProtocolError, match="during `learn`"):
        recording.flush()


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    callbacks = CallbackList([TraceCallback(tmp_path / "a"), TraceCallback(tmp_path / "b")])
    with pytest.raises(ProtocolError, match="only one"):
        ALGORITHMS["A2C"][0](envs(discrete)).learn(10, callbacks)
    callbacks.callbacks[1].close()  # type: ignore[attr-defined]


class Widening(gym.Env[Any, Any]):
    """Its observations are of another dtype than its space says."""

    observation_space = gym.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.count = 0
        return np.zeros(1, np.float64), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.array([self.count / 4]), 1.0, self.count == 3, False, {}


class Losing(DummyVecEnv):
    """Drops what SB3's own keeps, as procgen's environments do; observations as the environments give them."""

    def step_wait(self) -> Any:
        *others, infos = super().step_wait()
        for info in infos:
            info.pop("terminal_observation", None)
        return *others, infos


class Float64(DummyVecEnv):
    """Gives float64 where the space says float32."""

    def reset(self) -> Any:
        return np.asarray(super().reset(), np.float64)

    def step_wait(self) -> Any:
        obs, *others = super().step_wait()
        return np.asarray(obs, np.float64), *others


@pytest.mark.parametrize(("cast", "dtype"), [(None, np.float64), ("space", np.float32)])
def test_dtypes_of_the_spaces(cast: Any, dtype: Any, tmp_path: Path) -> None:
    A2C("MlpPolicy", Float64([Widening]), **SMALL).learn(5, TraceCallback(tmp_path, cast=cast))
    traces = open_traces(tmp_path)
    assert [each.obs.ravel().tolist() for each in traces] == [[0, 0.25, 0.5, 0.75], [0, 0.25, 0.5]]
    assert {each.obs.dtype for each in traces} == {np.dtype(dtype)}


def test_missing_last_observations(tmp_path: Path) -> None:
    with pytest.raises(MissingTerminalObservationError, match='missing_final_obs="drop"'):
        A2C("MlpPolicy", Losing([Widening]), **SMALL).learn(5, TraceCallback(tmp_path / "raise"))
    lengths = {}
    for missing in ("drop", "mark"):
        callback = TraceCallback(tmp_path / missing, missing_final_obs=missing)  # type: ignore[arg-type]
        A2C("MlpPolicy", Losing([Widening]), **SMALL).learn(5, callback)
        traces = open_traces(tmp_path / missing)
        lengths[missing] = [len(each) for each in traces]
    assert lengths == {"drop": [2, 2], "mark": [3, 2]}
    assert traces[0].obs.ravel().tolist() == [0, 0.25, 0.5, 0.5]
    assert traces[0].infos[-1]["final_obs_missing"] is True


def test_options_are_checked(tmp_path: Path) -> None:
    for wrong in ({"record_infos": "some"}, {"cast": "float32"}, {"missing_final_obs": "guess"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            TraceCallback(tmp_path, **wrong)
    for options in ({"max_transitions": 1}, {"compression": "gzip"}):
        with pytest.raises(OptionError, match=next(iter(options))):
            ALGORITHMS["A2C"][0](envs(discrete)).learn(10, TraceCallback(tmp_path, **options))  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="processes are ended by signals on POSIX")
def test_a_signal_that_ends_the_process(tmp_path: Path) -> None:
    """At most the step in flight is lost. Most of the time is spent between steps: infos are large, and copied."""
    code = f"""
import mmap, sys
import gymnasium as gym
import numpy as np
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import TraceCallback

file = open({str(tmp_path / "steps")!r}, "r+b")
done = mmap.mmap(file.fileno(), 8)
LARGE = dict.fromkeys(range(300_000))


class Counting(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, **kwargs):
        return np.zeros(1, np.float32), {{}}


class Counted(DummyVecEnv):
    def step_wait(self):
        number = int.from_bytes(done[:], "little") + 1
        if number == 3:
            print("ready", flush=True)
        returned = np.zeros((1, 1), np.float32), np.full(1, number, np.float32), np.zeros(1, bool), [LARGE]
        done[:] = number.to_bytes(8, "little")
        return returned


callback = TraceCallback({str(tmp_path / "t")!r}, record_infos="none")
A2C("MlpPolicy", Counted([Counting]), device="cpu").learn(10**9, callback)
"""
    (tmp_path / "steps").write_bytes(bytes(8))
    paths = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
        time.sleep(0.1)
        child.terminate()
        child.communicate(timeout=120)
        assert child.returncode == 128 + signal.SIGTERM
    (trajectory,) = open_traces(tmp_path / "t")
    number = int.from_bytes((tmp_path / "steps").read_bytes(), "little")
    recorded = len(trajectory)
    assert number - 1 <= recorded <= number
    assert trajectory.rews.tolist() == list(range(1, recorded + 1))  # type: ignore[attr-defined]


def test_wrong_options_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="mean 'compression'"):
        TraceCallback(tmp_path, compresion=None)
    with pytest.raises(ArgumentTypeError, match="metadata"):
        TraceCallback(tmp_path, metadata=["run", 7])
    with pytest.raises(ArgumentTypeError, match="directory"):
        TraceCallback(None)  # type: ignore[arg-type]
