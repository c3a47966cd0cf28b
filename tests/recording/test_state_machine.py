"""Any operations in any order, beside a recorder of plain lists."""

from __future__ import annotations

import dataclasses
import io
import pickle
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_recorder import Fragment, MisfitError, PlainRecorder, RefusedError, WaitingError
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper
from vecrollout.errors import (
    BufferFullError,
    DtypeError,
    EmptyBufferError,
    PrematureResetError,
    ProtocolError,
    ShapeError,
)
from vecrollout.testing import Scenario, ScriptedError, assert_same, leaves_of
from vecrollout.testing.spaces import VEC_ENV_SPACES
from vecrollout.testing.strategies import scenarios

# Its rows lie in lanes of their own, which are soon full where few transitions may be held.
FRAMES = spaces.Box(0, 255, (32, 32), np.uint8)

# The model's error, and what the wrapper raises in its place.
ERRORS = {
    BufferFullError: BufferFullError,
    EmptyBufferError: EmptyBufferError,
    MisfitError: (DtypeError, ShapeError),
    PrematureResetError: PrematureResetError,
    ProtocolError: ProtocolError,
    RefusedError: RefusedError,
    ScriptedError: ScriptedError,
    WaitingError: AssertionError,
}


class Subclass(np.ndarray):
    pass


def tensor(array: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the array is read-only
        return torch.from_numpy(array)


# What a user may keep of an array after everything else of the trajectory is gone.
KEPT: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda array: array,
    "rows": lambda array: array[2:3],
    "last row": lambda array: array[-1:],
    "view of a view of a view": lambda array: array[::-1][1:][::-1],
    "asarray": lambda array: np.asarray(array[:-1]),
    "flat": lambda array: array.reshape(-1),
    "transposed": lambda array: array.T,
    "bytes": lambda array: array.view(np.uint8) if array.ndim == 1 else array.reshape(len(array), -1).view(np.uint8),
    "subclass": lambda array: array.view(Subclass)[1:].view(np.ndarray),
    "strided": lambda array: np.lib.stride_tricks.as_strided(array, array.shape, array.strides, writeable=False),
    "broadcast": lambda array: np.broadcast_to(array, (2, *array.shape)),
    "memoryview": lambda array: memoryview(array),
    "frombuffer": lambda array: np.frombuffer(memoryview(array), dtype=array.dtype),
    "tensor": tensor,
    "part of a tensor": lambda array: tensor(array)[1:],
    "pickled": lambda array: pickle.loads(pickle.dumps(array)),
}


def plain(kept: Any) -> np.ndarray:
    return np.array(kept.numpy() if isinstance(kept, torch.Tensor) else kept)


class Sink:
    """Takes a trajectory at a time, or refuses."""

    def __init__(self, model: PlainRecorder) -> None:
        self.model = model
        self.taken: list[Any] = []
        self.kept: list[tuple[Any, list[np.ndarray]]] = []

    def append(self, trajectory: Any) -> None:
        if self.model.sink_refuses:
            raise RefusedError
        self.taken.append(trajectory)
        if len(self.taken) % 3 == 0:
            self.kept = self.kept[-9:]
            self.kept.append((trajectory.obs, [leaf.copy() for leaf in leaves_of(trajectory.obs)]))


class BatchSink(Sink):
    """Takes all trajectories that a step ended at once, and looks at them later."""

    def __init__(self, model: PlainRecorder) -> None:
        super().__init__(model)
        self.batches: list[Any] = []

    def extend(self, batch: Any) -> None:
        if self.model.sink_refuses:
            raise RefusedError
        self.batches.append(batch)
        while len(self.batches) > 3:
            self.look()

    def look(self) -> None:
        for trajectory in self.batches.pop(0):
            self.append(trajectory)


class BufferingMachine(RuleBasedStateMachine):
    autoreset = "same_step"
    reward_dtype: Any = np.float32
    sees_both = False

    def environments(self, scenario: Scenario) -> Any:
        return DummyVecEnv(scenario.env_fns())

    def recorder(self) -> Any:
        return BufferingWrapper(self.base, **self.options)

    @initialize(
        scenario=scenarios((*VEC_ENV_SPACES, FRAMES, spaces.Dict({"frame": FRAMES, "level": spaces.Discrete(256)}))),
        options=st.fixed_dictionaries(
            {
                "error_on_premature_reset": st.booleans(),
                "early_reset": st.sampled_from(["close", "drop"]),
                "on_full": st.sampled_from(["refuse", "drop_oldest", "flush"]),
            }
        ),
        record_infos=st.sampled_from(["all", "none", ["t", "nowhere"]]),
        most_steps=st.none() | st.integers(1, 12),
        sink=st.sampled_from([None, None, Sink, BatchSink]),
    )
    def begin(self, scenario, options, record_infos, most_steps, sink) -> None:
        if options["on_full"] == "flush":
            sink = sink or Sink
        most = None if most_steps is None else most_steps * scenario.num_envs
        has_sink = sink is not None
        self.model = PlainRecorder(scenario, max_transitions=most, has_sink=has_sink, rule=self.autoreset, **options)
        self.sink = sink(self.model) if has_sink else None
        self.options = {**options, "record_infos": record_infos, "max_transitions": most, "sink": self.sink}
        self.record_infos = record_infos
        self.base = self.environments(scenario)
        self.venv = self.recorder()
        self.calls = 0
        self.kept: list[tuple[Any, np.ndarray]] = []
        self.seen = 0  # of the sink
        self.reset(None)

    @property
    def can_step(self) -> bool:
        return self.model.ready and self.model.pending is None

    @contextmanager
    def both_raise(self, act: Callable[[], Any]):
        """The model has done its part already, as given by `act`: what it raised, the wrapper has to raise."""
        try:
            act()
        except tuple(ERRORS) as error:
            with pytest.raises(ERRORS[type(error)]):
                yield
        else:
            yield

    # Stepping

    def actions(self, kind: str = "usual") -> np.ndarray:
        self.calls += 1
        actions = self.model.scenario.actions(self.calls)
        if kind == "another dtype":
            return actions.astype(np.float16)
        if kind == "another shape":
            return actions[..., None] + np.zeros(2, actions.dtype)
        return actions

    def start(self, kind: str = "usual") -> None:
        actions = self.actions(kind)
        with self.both_raise(lambda: self.model.step_async(actions)):
            self.venv.step_async(actions)
        actions[...] = 0

    def wait(self) -> None:
        with self.both_raise(self.model.step_wait):
            self.venv.step_wait()

    @precondition(lambda self: self.can_step)
    @rule(times=st.integers(1, 12))
    def step(self, times: int) -> None:
        for _ in range(times):
            if self.can_step:
                self.start()
            if self.model.pending is not None:
                self.wait()

    @precondition(lambda self: self.can_step)
    @rule(times=st.integers(1, 12), keep=st.sampled_from([None, *KEPT]), which=st.integers(0, 99))
    def step_and_pop(self, times: int, keep: str | None, which: int) -> None:
        self.step(times)
        self.pop_trajectories(keep, which)

    @precondition(lambda self: self.can_step)
    @rule(keep=st.sampled_from([None, *KEPT]), which=st.integers(0, 99))
    def pop_while_actions_wait(self, keep: str | None, which: int) -> None:
        self.start()
        self.pop_trajectories(keep, which)
        self.wait()

    @rule(act=st.sampled_from(["start", "start with another dtype", "start with another shape", "wait", "reset"]))
    def one_call(self, act: str) -> None:
        """At the right time or not."""
        if act == "wait":
            self.wait()
        elif act == "reset":
            self.reset(None)
        else:
            self.start(act.removeprefix("start with ") if act != "start" else "usual")

    @precondition(lambda self: self.model.ready)
    @rule(env=st.integers(0, 3))
    def failing_step(self, env: int) -> None:
        env %= self.model.scenario.num_envs
        self.model.envs[env].fail_next = True
        self.base.envs[env].fail_next = True
        if self.model.pending is None:
            self.start()
        self.wait()
        self.model.envs[env].fail_next = False
        self.base.envs[env].fail_next = False

    def reset(self, seed: int | None) -> None:
        if seed is not None:
            self.model.seeds = list(self.venv.seed(seed))
        with self.both_raise(self.model.reset):
            self.venv.reset()

    @rule(seed=st.none() | st.integers(0, 99), pops=st.booleans())
    def pop_and_reset(self, seed: int | None, pops: bool) -> None:
        if pops or self.options["error_on_premature_reset"]:
            self.pop_trajectories(None, 0)
        self.reset(seed)

    @precondition(lambda self: self.can_step)
    @rule()
    def close_and_reset(self) -> None:
        with self.both_raise(self.model.close):
            self.venv.close()
        self.reset(None)

    @precondition(lambda self: self.sink is not None)
    @rule(refuses=st.booleans())
    def switch_sink(self, refuses: bool) -> None:
        self.model.sink_refuses = refuses

    @precondition(lambda self: type(self.sink) is BatchSink and not self.model.sink_refuses)
    @rule()
    def sink_looks_at_its_batches(self) -> None:
        while self.sink.batches:
            self.sink.look()

    # Popping

    @rule(keep=st.sampled_from([None, *KEPT]), which=st.integers(0, 99))
    def pop_trajectories(self, keep: str | None, which: int) -> None:
        self.check_trajectories(self.venv.pop_trajectories(), self.model.pop(), keep, which)

    @rule(keep=st.sampled_from([None, *KEPT]), which=st.integers(0, 99))
    def pop_finished_trajectories(self, keep: str | None, which: int) -> None:
        self.check_trajectories(self.venv.pop_finished_trajectories(), self.model.pop_finished(), keep, which)

    @precondition(lambda self: self.model.counts["stepped"])
    @rule()
    def pop_transitions(self) -> None:
        fragments: list[Fragment] = []
        with self.both_raise(lambda: fragments.extend(self.model.pop_transitions())):
            transitions = self.venv.pop_transitions()
        if not fragments:
            return
        wholes = [each.recorded() for each in fragments]
        for name, span in {"obs": slice(None, -1), "next_obs": slice(1, None)}.items():
            leaves = zip(*(leaves_of(each.obs) for each in wholes), strict=True)
            for actual, expected in zip(leaves_of(getattr(transitions, name)), leaves, strict=True):
                assert_same(actual, np.concatenate([leaf[span] for leaf in expected]), name)
        assert_same(transitions.acts, np.concatenate([each.acts for each in wholes]), "acts")
        assert_same(transitions.rews, np.concatenate([each.rews for each in wholes]).astype(self.reward_dtype), "rews")
        flags = {"dones": "terminal", "terminated": "terminated", "truncated": "truncated"}
        for name, attribute in flags.items():
            expected = [
                t == each.stop_step - 1
                and getattr(each, attribute)
                and (self.sees_both or name != "truncated" or not each.terminated)
                for each in wholes
                for t in range(each.start_step, each.stop_step)
            ]
            assert_same(getattr(transitions, name), np.array(expected), name)
        steps = [t + 1 for each in wholes for t in range(each.start_step, each.stop_step)]
        assert [info.get("t") for info in transitions.infos] == (
            steps if self.record_infos != "none" else [None] * len(steps)
        )

    def check_trajectories(self, popped: Any, fragments: list[Fragment], keep: str | None, which: int) -> None:
        trajectories, lengths = popped
        assert lengths == [each.stop_step for each in fragments if each.terminal]
        self.check(trajectories, fragments)
        if keep is not None and trajectories:
            trajectory = trajectories[which % len(trajectories)]
            leaves = [*leaves_of(trajectory.obs), trajectory.acts, trajectory.rews]
            kept = KEPT[keep](leaves[which // len(trajectories) % len(leaves)])
            self.kept.append((kept, plain(kept)))

    def check(self, trajectories: list[Any], fragments: list[Fragment]) -> None:
        assert len(trajectories) == len(fragments)
        for trajectory, fragment in zip(trajectories, fragments, strict=True):
            if self.record_infos == "none":
                assert trajectory.infos is None
                steps = range(fragment.start_step + 1, fragment.stop_step + 1)
                trajectory = dataclasses.replace(trajectory, infos=[{"t": t} for t in steps])
            elif self.record_infos != "all":
                assert all(info.keys() == {"t"} for info in trajectory.infos)
            fragment.recorded().assert_recorded_as(trajectory, reward_dtype=self.reward_dtype, sees_both=self.sees_both)
            assert trajectory.episode.seed == fragment.seed

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 99))
    def forget(self, which: int) -> None:
        del self.kept[which % len(self.kept)]

    # Saving

    @precondition(lambda self: self.model.pending is None)
    @rule()
    def save_and_load(self) -> None:
        file = io.BytesIO()
        np.savez(file, **self.venv.state_dict())
        file.seek(0)
        self.venv = self.recorder()
        with np.load(file, allow_pickle=False) as state:
            self.venv.load_state_dict(state)
        if not self.model.held:
            self.model.kind = None

    # What always holds

    @invariant()
    def everything_is_accounted_for(self) -> None:
        if not hasattr(self, "venv"):
            return
        counts = {name: getattr(self.venv, name) for name in ("stepped", "popped", "delivered", "dropped")}
        assert counts == {name: self.model.counts[name] for name in counts}
        assert self.venv.held == self.venv.n_transitions == self.model.held
        assert counts["stepped"] == self.venv.held + counts["popped"] + counts["delivered"] + counts["dropped"]

    @invariant()
    def what_was_popped_stays(self) -> None:
        for kept, was in getattr(self, "kept", ()):
            assert_same(plain(kept), was)
        for obs, was in getattr(getattr(self, "sink", None), "kept", ()):
            assert_same(leaves_of(obs), was)

    @invariant()
    def the_sink_got_what_finished(self) -> None:
        if getattr(self, "sink", None) is not None:
            taken = len(self.sink.taken)
            self.check(self.sink.taken[self.seen :], self.model.delivered[self.seen : taken])
            self.seen = taken


BufferingMachine.TestCase.settings = settings(max_examples=5 * settings().max_examples, stateful_step_count=40)
TestBuffering = BufferingMachine.TestCase
