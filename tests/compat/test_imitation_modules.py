"""What `vecrollout.compat.imitation` does that the rest of the package does not."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import vecrollout
from vecrollout import DictObs, Trajectory, Transitions, TupleObs
from vecrollout.compat.imitation import rollout, types, wrappers
from vecrollout.errors import (
    MissingTerminalObservationError,
    PrematureResetError,
    ProtocolError,
    ShapeError,
    VecrolloutError,
)

ENVIRONMENTS = 3


@pytest.fixture
def venv() -> DummyVecEnv:
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")] * ENVIRONMENTS)
    venv.seed(0)
    return venv


def steps(count: int, *, as_dict: bool = False) -> Transitions:
    def observations(start: int) -> Any:
        array = np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)
        return DictObs({"a": array, "b": array[:, 0]}) if as_dict else array

    dones = np.arange(count) % 2 == 1
    infos = np.array([{"t": t} for t in range(count)])
    return Transitions(obs=observations(0), acts=np.arange(count), infos=infos, next_obs=observations(2), dones=dones)


class TestTypes:
    @pytest.mark.parametrize("obs", [DictObs({"a": np.zeros(1)}), TupleObs((np.zeros(1),))])
    def test_assert_not_dictobs(self, obs: Any) -> None:
        with pytest.raises(AssertionError, match="expected an array") as error:
            types.assert_not_dictobs(obs)
        assert isinstance(error.value, VecrolloutError)
        array = np.zeros(1)
        assert types.assert_not_dictobs(array) is array

    def test_wrapping_and_unwrapping(self) -> None:
        plain = {"a": np.zeros(2)}
        wrapped = types.maybe_wrap_in_dictobs(plain)
        assert isinstance(wrapped, DictObs)
        assert types.maybe_wrap_in_dictobs(wrapped) is wrapped
        assert types.maybe_unwrap_dictobs(wrapped) == plain
        for leaf in (np.zeros(2), np.float32(1), 1, 1.5):
            assert types.maybe_wrap_in_dictobs(leaf) is leaf
            assert types.maybe_unwrap_dictobs(leaf) is leaf
        assert types.maybe_unwrap_dictobs(TupleObs((np.zeros(2),)))[0].shape == (2,)

    @pytest.mark.parametrize("function", [types.maybe_wrap_in_dictobs, types.maybe_unwrap_dictobs])
    def test_what_is_no_observation_comes_back_with_a_warning(self, function: Any) -> None:
        with pytest.warns(UserWarning, match="got str"):
            assert function("text") == "text"

    def test_combining(self) -> None:
        for part in (np.zeros((2, 3)), DictObs({"a": np.zeros((2, 3))})):
            assert len(types.concatenate_maybe_dictobs([part, part])) == 4
            assert len(types.stack_maybe_dictobs([part, part, part])) == 3
        infos = types.stack_maybe_dictobs([{"a": 1}, {"b": 2}])
        assert infos.tolist() == [{"a": 1}, {"b": 2}]
        for function in (types.concatenate_maybe_dictobs, types.stack_maybe_dictobs):
            with pytest.raises(ShapeError, match="at least one"):
                function([])

    def test_map_maybe_dict(self) -> None:
        assert types.map_maybe_dict(abs, -1) == 1
        assert types.map_maybe_dict(abs, {"a": -1, "b": 2}) == {"a": 1, "b": 2}

    def test_asdict_allows_rebuilding_a_trajectory_that_ends_otherwise(self) -> None:
        cut_short = Trajectory(obs=np.zeros(3), acts=np.zeros(2), infos=None, terminal=True, truncated=True)
        fields = types.dataclass_quick_asdict(cut_short)
        assert list(fields) == ["obs", "acts", "infos", "terminal"]
        assert fields["obs"] is cut_short.obs
        assert not Trajectory(**{**fields, "terminal": False}).truncated

    def test_asdict_keeps_how_steps_ended(self) -> None:
        transitions = steps(4)
        assert Transitions(**types.dataclass_quick_asdict(transitions)) == transitions

    @pytest.mark.parametrize("as_dict", [False, True])
    def test_collating(self, as_dict: bool) -> None:
        transitions = steps(4, as_dict=as_dict)
        loader = torch.utils.data.DataLoader(transitions, batch_size=4, collate_fn=types.transitions_collate_fn)
        (batch,) = loader
        assert batch.keys() == transitions[0].keys()
        for name in ("obs", "next_obs"):
            assert type(batch[name]) is type(getattr(transitions, name))
            assert vecrollout.data.trees.equal(batch[name], getattr(transitions, name))
        for name in ("acts", "dones"):
            assert torch.equal(batch[name], torch.from_numpy(getattr(transitions, name).copy()))
        assert batch["infos"] == list(transitions.infos)


class TestBufferingWrapper:
    def run(self, venv: wrappers.BufferingWrapper, count: int) -> None:
        for _ in range(count):
            venv.step(np.ones(ENVIRONMENTS, dtype=int))

    def test_finished_trajectories_popped_running_ones_do_not_stand_in_the_way(self, venv: DummyVecEnv) -> None:
        recorder = wrappers.BufferingWrapper(venv)
        recorder.reset()
        self.run(recorder, 25)
        finished, lengths = recorder.pop_finished_trajectories()
        assert [len(each) for each in finished] == lengths
        running = recorder.held
        assert running > 0
        assert recorder.n_transitions == 0

        recorder.reset()
        assert (recorder.held, recorder.dropped) == (0, running)
        assert recorder.stepped == recorder.popped + recorder.dropped

    def test_a_reset_is_refused_after_further_steps(self, venv: DummyVecEnv) -> None:
        recorder = wrappers.BufferingWrapper(venv)
        recorder.reset()
        self.run(recorder, 3)
        recorder.pop_finished_trajectories()
        self.run(recorder, 1)
        assert recorder.n_transitions == ENVIRONMENTS
        with pytest.raises(PrematureResetError):
            recorder.reset()
        assert recorder.error_on_premature_reset
        # What was left behind is not lost: it comes out with what followed it.
        assert len(recorder.pop_transitions()) == 4 * ENVIRONMENTS
        assert recorder.n_transitions == 0
        recorder.reset()

    def test_without_refusal_finished_trajectories_stay(self, venv: DummyVecEnv) -> None:
        recorder = wrappers.BufferingWrapper(venv, error_on_premature_reset=False)
        recorder.reset()
        self.run(recorder, 25)
        recorder.reset()
        assert recorder.n_transitions == recorder.held > 0
        trajectories, _ = recorder.pop_trajectories()
        assert all(each.terminal for each in trajectories)
        assert recorder.stepped == recorder.popped + recorder.dropped

    def test_a_restored_state_is_counted_in_full(self, venv: DummyVecEnv) -> None:
        recorder = wrappers.BufferingWrapper(venv, error_on_premature_reset=False)
        recorder.reset()
        self.run(recorder, 3)
        state = recorder.state_dict()
        recorder.pop_finished_trajectories()
        recorder.load_state_dict(state)
        assert recorder.n_transitions == 3 * ENVIRONMENTS


class TestTrajectoryAccumulator:
    def test_gathers_what_a_vector_environment_does(self, venv: DummyVecEnv) -> None:
        recorder = vecrollout.BufferingWrapper(venv)
        accumulator = rollout.TrajectoryAccumulator()
        finished = []
        for env, obs in enumerate(recorder.reset()):
            accumulator.add_step({"obs": obs}, key=env)
        for _ in range(40):
            acts = np.ones(ENVIRONMENTS, dtype=int)
            finished += accumulator.add_steps_and_auto_finish(acts, *recorder.step(acts))
        running = [accumulator.finish_trajectory(env, terminal=False) for env in range(ENVIRONMENTS)]
        assert finished
        assert finished + running == recorder.pop_trajectories()[0]
        assert not accumulator.partial_trajectories

    def test_copies(self) -> None:
        accumulator = rollout.TrajectoryAccumulator()
        obs = {"a": np.zeros(2)}
        accumulator.add_step({"obs": DictObs(obs)})
        acts = np.zeros(1)
        for _ in range(2):
            obs["a"] += 1
            acts += 1
            accumulator.add_step({"obs": DictObs(obs), "acts": acts, "rews": 0.5, "infos": {}})
        trajectory = accumulator.finish_trajectory(None, terminal=True)
        assert trajectory.obs.get("a")[:, 0].tolist() == [0, 1, 2]
        assert trajectory.acts[:, 0].tolist() == [1, 2]

    @pytest.mark.parametrize("truncated", [True, False])
    def test_tells_truncation_apart(self, truncated: bool) -> None:
        accumulator = rollout.TrajectoryAccumulator()
        accumulator.add_step({"obs": np.zeros(1)}, key=0)
        info = {"terminal_observation": np.ones(1), "TimeLimit.truncated": truncated}
        (trajectory,) = accumulator.add_steps_and_auto_finish(
            np.zeros(1), np.zeros((1, 1)), np.zeros(1), [True], [info]
        )
        assert (trajectory.terminated, trajectory.truncated) == (not truncated, truncated)
        assert trajectory.obs.tolist() == [[0], [1]]

    def test_errors(self) -> None:
        accumulator = rollout.TrajectoryAccumulator()
        with pytest.raises(ProtocolError, match="key='a'"):
            accumulator.finish_trajectory("a", terminal=True)
        step = (np.zeros(1), np.zeros((1, 1)), np.zeros(1))
        with pytest.raises(ProtocolError, match="environment 0: expected add_step"):
            accumulator.add_steps_and_auto_finish(*step, [False], [{}])
        accumulator.add_step({"obs": np.zeros(1)}, key=0)
        with pytest.raises(MissingTerminalObservationError, match=r"infos\[0\]"):
            accumulator.add_steps_and_auto_finish(*step, [True], [{}])


class TestCollection:
    def test_random_actions_come_from_the_action_space(self, venv: DummyVecEnv) -> None:
        def actions(seed: int) -> list[list[int]]:
            venv.seed(0)
            venv.action_space.seed(0)
            rng = np.random.default_rng(seed)
            collect = rollout.generate_trajectories
            return [each.acts.tolist() for each in collect(None, venv, rollout.make_min_episodes(3), rng)]

        assert sorted(actions(0)) == sorted(actions(1))

    def test_determinism_means_nothing_to_random_actions(self, venv: DummyVecEnv) -> None:
        rng = np.random.default_rng(0)
        options: dict[str, Any] = {"deterministic_policy": True}
        enough = rollout.make_min_episodes(1)
        assert rollout.generate_trajectories(None, venv, enough, rng, **options)
        assert rollout.rollout(None, venv, enough, rng, unwrap=False, **options)
        assert len(rollout.generate_transitions(None, venv, 5, rng, **options)) == 5
