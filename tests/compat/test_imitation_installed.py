"""Where imitation is installed, its algorithms accept what `vecrollout.compat.imitation` returns."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import vecrollout
from vecrollout.compat.imitation import buffer, rollout, types, wrappers

ENVIRONMENTS = 2
STEPS = 3
NAMES = ["Trajectory", "TrajectoryWithRew", "TransitionsMinimal", "Transitions", "TransitionsWithRew"]

installed = pytest.mark.usefixtures("imitation_installed")


class Halves(gym.ObservationWrapper):
    """CartPole's observation as a dict."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        box = gym.spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = gym.spaces.Dict({"even": box, "odd": box})

    def observation(self, observation: Any) -> Any:
        return {"even": observation[::2], "odd": observation[1::2]}


def environments(record: Any = wrappers.RolloutInfoWrapper, *, as_dict: bool = False) -> DummyVecEnv:
    def make() -> gym.Env:
        env = gym.make("CartPole-v1")
        return record(Halves(env) if as_dict else env)

    venv = DummyVecEnv([make] * ENVIRONMENTS)
    venv.seed(0)
    venv.action_space.seed(0)
    return venv


def fields_of(name: str, *, as_dict: bool) -> dict[str, Any]:
    def obs(rows: int) -> Any:
        array = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        return {"a": array, "b": array[:, 0]} if as_dict else array

    path = "Trajectory" in name
    fields: dict[str, Any] = {"obs": obs(STEPS + path), "acts": np.arange(STEPS), "infos": np.array([{}] * STEPS)}
    ends = np.arange(STEPS) == STEPS - 1
    fields |= {"terminal": True} if path else {"next_obs": obs(STEPS), "dones": ends} if "Minimal" not in name else {}
    return fields | ({"rews": np.ones(STEPS)} if "Rew" in name else {})


def is_both(each: Any) -> bool:
    """Whether an object is an instance of imitation's class of the same name, and of ours."""
    from imitation.data import types as theirs

    name = type(each).__name__
    obs = getattr(each, "obs", None)
    return (
        isinstance(each, getattr(theirs, name))
        and isinstance(each, getattr(vecrollout, name))
        and (not isinstance(obs, vecrollout.DictObs) or is_both(obs))
    )


@installed
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_dict", [False, True])
class TestClasses:
    @pytest.fixture
    def mine(self, name: str, as_dict: bool) -> Any:
        return getattr(types, name)(**fields_of(name, as_dict=as_dict))

    def test_instances_of_both(self, mine: Any) -> None:
        assert is_both(mine)
        copies = [copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), dataclasses.replace(mine)]
        for each in copies:
            assert type(each) is type(mine)
            assert each == mine

    def test_equal_to_the_same_data_of_another_class(self, mine: Any, name: str, as_dict: bool) -> None:
        from imitation.data import types as theirs

        fields = fields_of(name, as_dict=as_dict)
        ours = getattr(vecrollout, name)(**fields)
        for key in {"obs", "next_obs"} & fields.keys() if as_dict else ():
            fields[key] = theirs.DictObs(fields[key])
        original = getattr(theirs, name)(**fields)
        assert mine == original == mine == ours == mine
        assert getattr(types, name)(**fields) == mine
        changed = dataclasses.replace(mine, acts=mine.acts + 1)
        assert changed != original
        assert changed != ours
        assert mine != "text"
        assert is_both(getattr(types, name)(**fields))

    def test_observations(self, mine: Any, as_dict: bool) -> None:
        if not as_dict:
            return
        assert is_both(mine.obs)
        assert is_both(mine.obs[1:])
        assert all(map(is_both, mine.obs))
        assert mine.obs == vecrollout.DictObs(mine.obs.unwrap()) == mine.obs
        assert is_both(types.DictObs.stack([mine.obs, vecrollout.DictObs(mine.obs.unwrap())]))

    def test_parts(self, mine: Any, name: str) -> None:
        if "Transitions" not in name:
            return
        for part in (mine[1:], mine[[0, 2]], mine[mine.acts > 0]):
            assert is_both(part)
        assert isinstance(mine, torch.utils.data.Dataset)


@installed
@pytest.mark.parametrize("as_dict", [False, True])
class TestReturned:
    def expert(self, obs: Any, state: Any, starts: Any) -> Any:
        return np.zeros(ENVIRONMENTS, dtype=int), state

    def test_by_the_recorder(self, as_dict: bool) -> None:
        recorder = wrappers.BufferingWrapper(environments(as_dict=as_dict))
        recorder.reset()

        def popped(method: str) -> Iterator[Any]:
            for _ in range(15):
                recorder.step(np.zeros(ENVIRONMENTS, dtype=int))
            result = getattr(recorder, method)()
            yield from result[0] if isinstance(result, tuple) else [result]

        for method in ("pop_finished_trajectories", "pop_trajectories", "pop_transitions"):
            objects = list(popped(method))
            assert objects
            assert all(map(is_both, objects))

    def test_by_functions(self, as_dict: bool) -> None:
        rng = np.random.default_rng(0)
        enough = rollout.make_min_episodes(2)
        collected = rollout.generate_trajectories(self.expert, environments(as_dict=as_dict), enough, rng)
        unwrapped = rollout.rollout(self.expert, environments(as_dict=as_dict), enough, rng)
        objects = [
            *collected,
            *unwrapped,
            rollout.unwrap_traj(collected[0]),
            rollout.flatten_trajectories(collected),
            rollout.flatten_trajectories_with_rew(collected),
            rollout.generate_transitions(self.expert, environments(as_dict=as_dict), 5, rng),
        ]
        assert all(map(is_both, objects))

    def test_by_an_accumulator(self, as_dict: bool) -> None:
        accumulator = rollout.TrajectoryAccumulator()
        fields = fields_of("TrajectoryWithRew", as_dict=as_dict)
        obs = types.maybe_wrap_in_dictobs(fields["obs"])
        accumulator.add_step({"obs": obs[0]})
        for t in range(STEPS):
            accumulator.add_step({"obs": obs[t + 1], "acts": t, "rews": 1.0, "infos": {}})
        finished = accumulator.finish_trajectory(None, terminal=True)
        assert is_both(finished)
        assert finished == types.TrajectoryWithRew(**fields)

    def test_the_package_keeps_its_own_classes(self, as_dict: bool) -> None:
        recorder = vecrollout.BufferingWrapper(environments(as_dict=as_dict))
        recorder.reset()
        recorder.step(np.zeros(ENVIRONMENTS, dtype=int))
        trajectories, _ = recorder.pop_trajectories()
        assert {type(each) for each in trajectories} == {vecrollout.TrajectoryWithRew}
        assert type(vecrollout.flatten_trajectories(trajectories)) is vecrollout.Transitions

    def test_the_package_takes_them(self, as_dict: bool, tmp_path: Path) -> None:
        fields = fields_of("TrajectoryWithRew", as_dict=as_dict)
        mine, ours = types.TrajectoryWithRew(**fields), vecrollout.TrajectoryWithRew(**fields)
        for mixed in ([mine, ours], [ours, mine]):
            assert vecrollout.flatten_trajectories(mixed) == vecrollout.flatten_trajectories([ours, ours])
            assert list(vecrollout.TrajectoryBatch.from_trajectories(mixed)) == [ours, ours]
        with vecrollout.TraceWriter(tmp_path) as writer:
            writer.append(mine)
        assert list(vecrollout.open_traces(tmp_path)) == [ours]

    def test_imitations_objects_are_taken(self, as_dict: bool) -> None:
        from vecrollout.interop.imitation import from_imitation, to_imitation

        mine = types.TrajectoryWithRew(**fields_of("TrajectoryWithRew", as_dict=as_dict))
        original = to_imitation(mine)
        assert not isinstance(original, vecrollout.Trajectory)
        assert from_imitation(mine) is mine
        for function in (rollout.flatten_trajectories, rollout.flatten_trajectories_with_rew, rollout.rollout_stats):
            assert function([original, mine]) == function([mine, mine])
            assert function(iter([original])) == function([mine])
        assert types.maybe_unwrap_dictobs(original.obs) is not None
        joined = types.concatenate_maybe_dictobs([original.obs, mine.obs])
        assert len(joined) == 2 * (STEPS + 1)
        if as_dict:
            assert is_both(joined)
            assert is_both(types.maybe_wrap_in_dictobs(original.obs))
            assert is_both(types.stack_maybe_dictobs([original.obs, mine.obs]))
            with pytest.raises(AssertionError, match="expected an array"):
                types.assert_not_dictobs(original.obs)
        else:
            kept = buffer.ReplayBuffer.from_data(to_imitation(rollout.flatten_trajectories([mine])))
            assert is_both(kept.sample(4))

    def test_rollout_info_wrappers_can_be_mixed(self, as_dict: bool) -> None:
        from imitation.data import rollout as their_rollout
        from imitation.data import wrappers as their_wrappers

        def collected(collect: Any, record: Any) -> Any:
            rng = np.random.default_rng(0)
            enough = rollout.make_min_episodes(2)
            return collect(self.expert, environments(record, as_dict=as_dict), enough, rng)

        ours = collected(rollout.rollout, wrappers.RolloutInfoWrapper)
        others = [collected(their_rollout.rollout, wrappers.RolloutInfoWrapper)]
        if not as_dict:
            others.append(collected(rollout.rollout, their_wrappers.RolloutInfoWrapper))
        for other in others:
            assert ours == list(other)
            assert rollout.flatten_trajectories(other) == rollout.flatten_trajectories(ours)

    def test_batches_of_imitations_data_loader(self, as_dict: bool) -> None:
        from imitation.algorithms.base import make_data_loader

        trajectory = types.TrajectoryWithRew(**fields_of("TrajectoryWithRew", as_dict=as_dict))
        for given in ([trajectory], rollout.flatten_trajectories([trajectory])):
            (batch,) = make_data_loader(given, batch_size=STEPS, data_loader_kwargs={"shuffle": False})
            assert batch["acts"].tolist() == list(range(STEPS))
            assert len(batch["obs"]) == STEPS
            assert not as_dict or sorted(batch["obs"].keys()) == ["a", "b"]


IN_PLACE = """
import importlib, sys, types as modules
import imitation.data
if {half}:
    sys.modules["imitation.data.types"] = modules.ModuleType("imitation.data.types")  # in the middle of its import
import vecrollout
from vecrollout.compat.imitation import types
sys.modules["imitation.data.types"] = imitation.data.types = types
from vecrollout.compat.imitation import buffer, huggingface_utils, rollout, serialize, wrappers
from imitation.algorithms import bc
assert bc.types is types
fields = {{"obs": [0.0, 1.0], "acts": [0], "infos": None, "terminal": True}}
trajectory = types.Trajectory(**fields)
assert isinstance(trajectory, vecrollout.Trajectory)
assert (type(trajectory) is vecrollout.Trajectory) == {half}
assert rollout.flatten_trajectories([trajectory]).dones.tolist() == [True]
"""


@installed
@pytest.mark.parametrize("half", [False, True])
def test_in_the_place_of_imitations_modules(half: bool) -> None:
    code = IN_PLACE.format(half=half)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_imitation_the_classes_are_the_packages() -> None:
    code = """
import sys
sys.modules["imitation"] = None
import vecrollout
from vecrollout.compat.imitation import types
for name in ("DictObs", "Trajectory", "TrajectoryWithRew", "TransitionsMinimal", "Transitions", "TransitionsWithRew"):
    assert getattr(types, name) is getattr(vecrollout, name), name
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
