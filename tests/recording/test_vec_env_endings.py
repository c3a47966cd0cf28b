"""What `VecEnv`s that are not SB3's leave out about episodes that end: last observations, reset infos, time limits."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from checks import run
from custom_venv import CustomVecEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    unwrap_vec_normalize,
)
from vector_envs import HAS_MODES, MODES, sync_env

from vecrollout import BufferingWrapper, TraceCallback, generate_transitions, open_traces, record_traces
from vecrollout.buffer import BatchedInfos
from vecrollout.errors import MissingTerminalObservationError, OptionError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same

SCENARIO = Scenario()
CALLS = 13


def lost(step):
    """As procgen's environments do."""
    for info in step[3]:
        info.pop("terminal_observation", None)
    return tuple(step)


def recorded(alter=lost, **options):
    recorder = BufferingWrapper(CustomVecEnv(SCENARIO.env_fns(), alter), **options)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(SCENARIO.actions(call))
    return recorder


class TestMissingLastObservations:
    def test_raises_by_default(self):
        with pytest.raises(MissingTerminalObservationError, match='missing_final_obs="drop" or "mark"'):
            recorded()

    def test_dropped(self):
        recorder = recorded(missing_final_obs="drop")
        expected = SCENARIO.recorded(0, CALLS)
        trajectories, lengths = recorder.pop_trajectories()
        assert lengths == []
        rows = [(each, len(each) - each.terminal) for each in expected]
        rows = [(each, steps) for each, steps in rows if steps]
        for trajectory, (each, steps) in zip(trajectories, rows, strict=True):
            assert_same(trajectory.obs, each.obs[: steps + 1])
            assert_same(trajectory.acts, each.acts[:steps])
            assert trajectory.episode.ended_by is None
        assert recorder.dropped == sum(each.terminal for each in expected)
        assert recorder.stepped == recorder.popped + recorder.dropped == 3 * CALLS

    def test_marked(self):
        trajectories, lengths = recorded(missing_final_obs="mark").pop_trajectories()
        expected = SCENARIO.recorded(0, CALLS)
        assert lengths == [each.stop_step for each in expected if each.terminal]
        for trajectory, each in zip(trajectories, expected, strict=True):
            assert_same(trajectory.obs, each.obs[[*range(len(each)), len(each) - each.terminal]])
            marks = [info.get("final_obs_missing", False) for info in trajectory.infos]
            assert marks == [False] * (len(each) - each.terminal) + [True] * each.terminal
            assert not any("terminal_observation" in info for info in trajectory.infos)

    def test_to_disk(self, tmp_path):
        recorder = record_traces(CustomVecEnv(SCENARIO.env_fns(), lost), tmp_path, missing_final_obs="drop")
        recorder.reset()
        for call in range(CALLS):
            recorder.step(SCENARIO.actions(call))
        recorder.close()
        assert sum(map(len, open_traces(tmp_path))) == recorder.delivered == 3 * CALLS - recorder.dropped

    def test_collected(self):
        venv = CustomVecEnv(SCENARIO.env_fns(), lost)
        transitions = generate_transitions(None, venv, 10, np.random.default_rng(0), missing_final_obs="mark")
        assert len(transitions) == 10

    def test_another_option(self):
        with pytest.raises(OptionError, match='missing_final_obs: expected "raise", "drop" or "mark", got'):
            BufferingWrapper(DummyVecEnv([CountingEnv]), missing_final_obs="ignore")
        with pytest.raises(OptionError, match="missing_final_obs: only for environments that reset themselves"):
            record_traces(CountingEnv(), "traces", missing_final_obs="drop")


class OfGymnasium(VecEnvWrapper):
    """SuperSuit's way: a `VecEnv` around a vector environment of Gymnasium that resets in the same step.

    It keeps the infos of explicit resets only, and drops how an episode ended.
    """

    def __init__(self, env, are_listed):
        self.venv = env
        self.num_envs, self.render_mode = env.num_envs, None
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.reset_infos = []
        self.are_listed = are_listed

    def getattr_depth_check(self, name, already_found):
        return None

    def getattr_recursive(self, name):
        raise AttributeError(name)

    def get_attr(self, attr_name, indices=None):
        return [None] * self.num_envs

    def reset(self):
        obs, infos = self.venv.reset()
        self.reset_infos = list(BatchedInfos(infos, self.num_envs)) if self.are_listed else infos
        return obs

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        obs, rews, terminated, truncated, infos = self.venv.step(self.actions)
        listed = list(BatchedInfos(infos.get("final_info", {}), self.num_envs))
        for env, is_over in enumerate(terminated | truncated):
            if is_over:
                listed[env]["terminal_observation"] = infos["final_obs"][env]
        return obs, rews, terminated | truncated, listed


@pytest.mark.skipif("same_step" not in MODES or not HAS_MODES, reason="this gymnasium does not have the rule")
@pytest.mark.parametrize("wrap", [lambda venv: venv, VecMonitor], ids=["bare", "below a wrapper of SB3"])
@pytest.mark.parametrize("are_listed", [True, False])
def test_a_vec_env_around_a_vector_env(are_listed, wrap):
    """Infos of resets are read where they are. The user is told once what is not known."""
    recorder = BufferingWrapper(wrap(OfGymnasium(sync_env(SCENARIO.env_fns(), "same_step"), are_listed)))
    recorder.reset()
    with pytest.warns(UserWarning, match=r"TimeLimit\.truncated") as warned:
        run(recorder, SCENARIO, 0, CALLS)
    assert len(warned) == 1
    for trajectory, expected in zip(recorder.pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs)
        assert trajectory.terminated == expected.terminal
        info = trajectory.episode.reset_info
        assert info is None if expected.episode else info["episode"] == 0
    recorder.reset()
    for trajectory in [*recorder.pop_trajectories()[0]]:
        assert trajectory.episode.reset_info["episode"]


def test_sb3s_own_vec_envs_know_their_limits(recwarn):
    recorder = BufferingWrapper(DummyVecEnv([lambda: CountingEnv(episodes=[EpisodeScript(2)])]))
    recorder.reset()
    for _ in range(5):
        recorder.step([0])
    assert not recwarn.list


class TestResetsBehindTheRecorder:
    @pytest.mark.parametrize("wrap", [lambda venv: venv, VecNormalize], ids=["recorder", "above"])
    def test_of_single_environments_are_refused(self, wrap):
        """Also through a wrapper around the recorder. Nothing is reset, and recording goes on."""
        recorder = BufferingWrapper(DummyVecEnv([lambda: CountingEnv(episodes=[EpisodeScript(9)])] * 2))
        venv = wrap(recorder)
        venv.reset()
        venv.step(np.zeros(2, int))
        for name in ("reset", "step"):
            with pytest.raises(ProtocolError, match=f'env_method: .*got "{name}".*call reset.*set_options'):
                venv.env_method(name, indices=[0])
        venv.step(np.zeros(2, int))
        assert [each.obs[:, 0].tolist() for each in recorder.pop_trajectories()[0]] == [[0, 1, 2]] * 2

    def test_other_methods_pass(self):
        recorder = BufferingWrapper(DummyVecEnv([CountingEnv] * 3))
        assert recorder.env_method("get_wrapper_attr", "render_mode", indices=[0, 2]) == [None, None]

    @pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv, CustomVecEnv])
    @pytest.mark.parametrize("by_halves", [False, True], ids=["step", "halves"])
    def test_of_all_end_the_episodes(self, kind, by_halves):
        """Episodes of 4 and 6 steps, each of which counts from another fifty: 0, 50, 100, ..."""
        recorder = BufferingWrapper(kind([partial(count_to, 4), partial(count_to, 6)]))
        recorder.reset()

        def drive(steps):
            for _ in range(steps):
                if by_halves:
                    recorder.step_async(np.zeros(2, int))
                    recorder.step_wait()
                else:
                    recorder.step(np.zeros(2, int))

        drive(2)
        recorder.venv.reset()
        with pytest.warns(UserWarning, match="environments inside it were reset"):
            drive(5)
        recorder.venv.seed(3)  # no reset
        recorder.venv.reset()
        drive(1)  # with a second warning, as warnings are errors here, this would raise
        drive(2)
        found = [
            (each.episode.env_index, each.episode.start_step, each.episode.ended_by, each.obs[:, 0].tolist())
            for each in recorder.pop_trajectories()[0]
        ]
        assert found == [
            (0, 0, "reset_early", [0, 1, 2]),
            (1, 0, "reset_early", [0, 1, 2]),
            (0, 1, "terminated", [51, 52, 53, 54]),
            (0, 0, "reset_early", [100, 101]),
            (1, 1, "reset_early", [51, 52, 53, 54, 55]),
            (0, 1, None, [151, 152, 153]),
            (1, 1, None, [101, 102, 103]),
        ]
        assert recorder.stepped == recorder.popped == 2 * 2 + 2 * 5 - 2 + 2 * 3 - 2
        recorder.close()

    def test_where_a_discarded_episode_ran(self):
        recorder = BufferingWrapper(DummyVecEnv([partial(count_to, 9)]))
        recorder.reset()
        recorder.step([0])
        recorder.discard_episode(0)
        recorder.venv.reset()
        with pytest.warns(UserWarning, match="were reset"):
            recorder.step([0])
        recorder.step([0])
        (trajectory,), _ = recorder.pop_trajectories()
        assert trajectory.obs[:, 0].tolist() == [51, 52]

    def test_new_seeds_are_no_reset(self):
        recorder = BufferingWrapper(DummyVecEnv([partial(count_to, 9)]))
        recorder.reset()
        recorder.step([0])
        recorder.seed(5)
        recorder.step([0])
        (first,), _ = recorder.pop_trajectories()
        recorder.reset()
        recorder.step([0])
        (second,), _ = recorder.pop_trajectories()
        assert [first.obs[:, 0].tolist(), second.obs[:, 0].tolist()] == [[0, 1, 2], [50, 51]]
        assert (first.episode.seed, second.episode.seed) == (None, 5)

    def test_through_a_recorder_below(self):
        """The one that was told records the first step, the other one does not."""
        below = BufferingWrapper(DummyVecEnv([partial(count_to, 9)]), error_on_premature_reset=False)
        above = BufferingWrapper(VecNormalize(below, norm_obs=False))
        above.reset()
        above.step([0])
        below.reset()
        with pytest.warns(UserWarning, match="were reset"):
            above.step([0])
        above.step([0])
        found = [[each.obs[:, 0].tolist() for each in recorder.pop_trajectories()[0]] for recorder in (below, above)]
        assert found == [[[0, 1], [50, 51, 52]], [[0, 1], [51, 52]]]

    def test_an_environment_whose_resets_leave_no_trace(self):
        """It begins its episodes as it likes; what it does not say cannot be known."""
        recorder = BufferingWrapper(CustomVecEnv([partial(count_to, 9)]))
        recorder.reset()
        recorder.step([0])
        recorder.venv.env_method("reset")
        recorder.step([0])
        (trajectory,), _ = recorder.pop_trajectories()
        assert trajectory.obs[:, 0].tolist() == [0, 1, 51]

    def test_in_training_below_the_wrapper_that_the_callback_records(self, tmp_path):
        class Resetting(BaseCallback):
            def _on_step(self):
                if self.n_calls == 3:
                    self.training_env.unwrapped.reset()
                return True

        model = PPO("MlpPolicy", VecFrameStack(DummyVecEnv([partial(count_to, 40)]), 2), n_steps=8, batch_size=8)
        with pytest.warns(UserWarning, match="were reset"):
            model.learn(8, [TraceCallback(tmp_path), Resetting()])
        found = [(each.obs[:, -1].tolist(), each.episode.ended_by) for each in open_traces(tmp_path)]
        assert found == [([0, 1, 2, 3], "reset_early"), ([51, 52, 53, 54, 55], "closed")]


def count_to(length):
    return CountingEnv(episodes=[EpisodeScript(length)], stride=50)


@pytest.mark.parametrize("order", ["below", "above"])
def test_evaluation_of_normalized_environments_with_two_recorders(order):
    """SB3 goes through both stacks of wrappers in parallel: recorders in the same place of both do not disturb it."""

    def make():
        venv = DummyVecEnv([lambda: Monitor(count_to(4))])
        if order == "above":
            return BufferingWrapper(VecNormalize(venv), error_on_premature_reset=False)
        return VecNormalize(BufferingWrapper(venv, error_on_premature_reset=False))

    evaluation = make()
    model = PPO("MlpPolicy", make(), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(16, EvalCallback(evaluation, eval_freq=8, n_eval_episodes=1, verbose=0))
    assert unwrap_vec_normalize(evaluation).obs_rms.count > 1


def test_evaluation_of_normalized_environments(tmp_path):
    """SB3 compares the wrappers of training and evaluation. `TraceCallback` adds none, as the guide says."""

    def make():
        return VecNormalize(DummyVecEnv([lambda: Monitor(CountingEnv(episodes=[EpisodeScript(4)]))]))

    evaluation = make()
    callbacks = [TraceCallback(tmp_path), EvalCallback(evaluation, eval_freq=8, n_eval_episodes=1, verbose=0)]
    model = PPO("MlpPolicy", make(), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(16, callbacks)
    assert sum(map(len, open_traces(tmp_path))) == 16
    assert evaluation.obs_rms.count > 1
    wrapped = PPO("MlpPolicy", BufferingWrapper(make()), n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    both = pytest.raises(AssertionError, match="expected the eval env to be a VecEnvWrapper")
    with both, pytest.warns(UserWarning, match="not of the same type"):
        wrapped.learn(16, EvalCallback(make(), eval_freq=8, n_eval_episodes=1, verbose=0))


@pytest.mark.parametrize("indices", [None, 1, [0]])
def test_a_reset_of_single_environments_in_training(indices, tmp_path):
    """`TraceCallback` adds no wrapper that could refuse it, so it ends the episodes. No transition leads across."""
    env_fns = [
        lambda first=first: CountingEnv(episodes=[EpisodeScript(40)], first=first, stride=100) for first in (0, 500)
    ]
    venv = DummyVecEnv(env_fns)

    class Resetting(BaseCallback):
        def _on_step(self):
            if self.n_calls == 3:
                self.training_env.env_method("reset", indices=indices)
            return True

    PPO("MlpPolicy", venv, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(
        16, [TraceCallback(tmp_path), Resetting()]
    )
    reset = [0, 1] if indices is None else np.atleast_1d(indices).tolist()
    found = sorted(
        (each.episode.env_index, each.episode.id, each.episode.start_step, len(each), each.episode.ended_by)
        for each in open_traces(tmp_path)
    )
    expected = []
    for env in range(2):
        if env in reset:
            expected += [(env, env, 0, 3, "reset_early"), (env, 2 + reset.index(env), 1, 4, "closed")]
        else:
            expected += [(env, env, 0, 8, "closed")]
    assert found == expected
    for each in open_traces(tmp_path):
        assert (np.diff(each.obs[:, 0]) == 1).all()
