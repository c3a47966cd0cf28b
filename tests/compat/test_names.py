"""Every public name of imitation's data modules is in ours, and is called the same way."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The interface of imitation 1.0.1.
NAMES = {
    "types": [
        "T",
        "AnyPath",
        "AnyTensor",
        "TensorVar",
        "DictObs",
        "Observation",
        "ObsVar",
        "assert_not_dictobs",
        "concatenate_maybe_dictobs",
        "stack_maybe_dictobs",
        "maybe_unwrap_dictobs",
        "maybe_wrap_in_dictobs",
        "map_maybe_dict",
        "TransitionMappingNoNextObs",
        "TransitionMapping",
        "dataclass_quick_asdict",
        "Trajectory",
        "TrajectoryWithRew",
        "Pair",
        "TrajectoryPair",
        "TrajectoryWithRewPair",
        "transitions_collate_fn",
        "TransitionsMinimalSelf",
        "TransitionsMinimal",
        "Transitions",
        "TransitionsWithRew",
    ],
    "rollout": [
        "unwrap_traj",
        "TrajectoryAccumulator",
        "GenTrajTerminationFn",
        "make_min_episodes",
        "make_min_timesteps",
        "make_sample_until",
        "PolicyCallable",
        "AnyPolicy",
        "policy_to_callable",
        "generate_trajectories",
        "rollout_stats",
        "flatten_trajectories",
        "flatten_trajectories_with_rew",
        "generate_transitions",
        "rollout",
        "discounted_sum",
    ],
    "wrappers": [
        "BufferingWrapper",
        "RolloutInfoWrapper",
    ],
    "buffer": ["num_samples", "Buffer", "ReplayBuffer"],
    "huggingface_utils": ["TrajectoryDatasetSequence", "trajectories_to_dict", "trajectories_to_dataset"],
    "serialize": ["save", "load", "load_with_rewards"],
}
ALL_NAMES = [(module, name) for module, names in NAMES.items() for name in names]

# Ours stack and join tuples too, so "dictobs_list" would be the wrong word. Nobody passes it by name.
OTHER_WORDS = {"DictObs.stack": {"dictobs_list": "trees"}, "DictObs.concatenate": {"dictobs_list": "trees"}}


def ours(module: str) -> Any:
    return importlib.import_module(f"vecrollout.compat.imitation.{module}")


def theirs(module: str) -> Any:
    return importlib.import_module(f"imitation.data.{module}")


@pytest.mark.parametrize(("module", "name"), ALL_NAMES)
def test_name_is_there_and_public(module: str, name: str) -> None:
    assert hasattr(ours(module), name)
    assert name in ours(module).__all__


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize("module", NAMES)
def test_no_name_is_missing_above(module: str) -> None:
    spec = importlib.util.find_spec(f"imitation.data.{module}")
    assert spec is not None
    defined = set()
    for node in ast.parse(Path(str(spec.origin)).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert {name for name in defined if not name.startswith("_")} == set(NAMES[module])


def call_differences(where: str, mine: Any, other: Any) -> Iterator[str]:
    """How calls of imitation's callable would fail with ours."""
    words = OTHER_WORDS.get(where, {})
    expected = list(inspect.signature(other).parameters.values())
    got = {each.name: each for each in inspect.signature(mine).parameters.values()}
    variadic = any(each.kind is each.VAR_KEYWORD for each in got.values())
    for position, parameter in enumerate(expected):
        if parameter.kind is parameter.VAR_KEYWORD:
            continue  # handed on to something that knows what it takes; where ours names them, it is these
        name = words.get(parameter.name, parameter.name)
        if name not in got:
            if not (variadic and parameter.kind is parameter.KEYWORD_ONLY):
                yield f"{where}: no parameter {name}"
            continue
        match = got.pop(name)
        if match.kind is not parameter.kind:
            yield f"{where}: {name} is {match.kind.description}, not {parameter.kind.description}"
        if match.default is not parameter.default and match.default != parameter.default:
            yield f"{where}: default of {name} is {match.default}, not {parameter.default}"
        if (
            parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            and list(inspect.signature(mine).parameters)[position] != name
        ):
            yield f"{where}: {name} at another position"
    for extra in got.values():
        if extra.default is extra.empty and extra.kind not in (extra.VAR_KEYWORD, extra.VAR_POSITIONAL):
            yield f"{where}: {extra.name} is required"


def differences(where: str, mine: Any, other: Any) -> Iterator[str]:
    if inspect.isclass(other) and dict not in other.__mro__:
        yield from call_differences(where, mine, other)
        for name, member in vars(other).items():
            special = name in ("__len__", "__getitem__", "__iter__", "__contains__", "__eq__")
            if name.startswith("_") and not special:
                continue
            if not hasattr(mine, name) and name not in getattr(mine, "__dataclass_fields__", {}):
                yield f"{where}: no {name}"
            elif callable(getattr(other, name)) and not special:
                yield from call_differences(f"{where}.{name}", getattr(mine, name), getattr(other, name))
            elif isinstance(member, property):
                assert isinstance(inspect.getattr_static(mine, name), property), name
    elif inspect.isfunction(other):
        yield from call_differences(where, mine, other)


@pytest.mark.usefixtures("imitation_installed")
@pytest.mark.parametrize(("module", "name"), ALL_NAMES)
def test_calls_are_compatible(module: str, name: str) -> None:
    assert list(differences(name, getattr(ours(module), name), getattr(theirs(module), name))) == []


@pytest.mark.parametrize(
    ("alias", "value"),
    [("AnyPath", "a/b"), ("AnyPath", Path("a")), ("AnyTensor", np.zeros(1)), ("Observation", np.zeros(1))],
)
def test_aliases_work_with_isinstance(alias: str, value: Any) -> None:
    assert isinstance(value, getattr(ours("types"), alias))
    assert not isinstance(3, getattr(ours("types"), alias))


PROGRAM = """
import dataclasses, hashlib
import gymnasium as gym
import imitation.data.types as types
import numpy as np
from imitation.data import rollout, wrappers
from imitation.data.rollout import make_sample_until
from imitation.data.types import DictObs, TrajectoryWithRew, TransitionsWithRew
from stable_baselines3.common.vec_env import DummyVecEnv

class Halves(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        box = gym.spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = gym.spaces.Dict({"even": box, "odd": box})

    def observation(self, observation):
        return {"even": observation[::2], "odd": observation[1::2]}

FIELDS = ["obs", "acts", "infos", "terminal", "next_obs", "dones", "rews"]

def show(*objects):
    for each in objects:
        if dataclasses.is_dataclass(each) and not isinstance(each, DictObs):
            print(type(each).__name__, len(each))
            fields = types.dataclass_quick_asdict(each)
            show(*(fields[name] for name in FIELDS if name in fields))
        elif isinstance(each, DictObs):
            show(*each.values())
        elif isinstance(each, np.ndarray) and each.dtype != object:
            print(each.dtype, each.shape, hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest())
        elif isinstance(each, np.ndarray):
            print(each.shape, [info.get("TimeLimit.truncated") for info in each])
        else:
            print(each)

def expert(obs, state, dones):
    velocity = obs["odd"] if isinstance(obs, dict) else obs
    return (velocity.sum(axis=-1) > 0).astype(int), state

for as_dict in (False, True):
    def make(as_dict=as_dict):
        env = wrappers.RolloutInfoWrapper(gym.make("CartPole-v1"))
        return Halves(env) if as_dict else env

    venv = wrappers.BufferingWrapper(DummyVecEnv([make] * 3))
    venv.seed(0)
    venv.action_space.seed(0)
    obs = venv.reset()
    for step in range(30):
        obs, *_ = venv.step(expert(obs, None, None)[0])
        if step == 7:
            transitions = venv.pop_transitions()
            assert isinstance(transitions, TransitionsWithRew)
            show(transitions, transitions[2:5], transitions[0]["acts"])
    trajectories, lengths = venv.pop_trajectories()
    assert all(isinstance(each, TrajectoryWithRew) for each in trajectories)
    show(*trajectories, list(map(int, lengths)), venv.n_transitions, rollout.rollout_stats(trajectories))
    rng = np.random.default_rng(0)
    collected = rollout.rollout(expert, venv.venv, make_sample_until(20, 4), rng=rng)
    show(*collected, rollout.rollout_stats(collected), rollout.flatten_trajectories(collected))
    show(rollout.discounted_sum(collected[0].rews, 0.9))
    if not as_dict:
        show(rollout.generate_transitions(None, venv.venv, n_timesteps=50, rng=rng))
"""


@pytest.mark.usefixtures("imitation_installed")
def test_a_program_works_after_find_and_replace(tmp_path: Path) -> None:
    outputs = []
    for name, replacement in {"theirs": "imitation.data", "ours": "vecrollout.compat.imitation"}.items():
        script = tmp_path / f"{name}.py"
        script.write_text(PROGRAM.replace("imitation.data", replacement), "utf-8")
        done = subprocess.run([sys.executable, str(script)], env=dict(os.environ), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
