"""Random calls of a buffer, beside its definition by plain lists. The data is so large that it fills several chunks."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from definition import Definition, Rows, assert_trajectories, assert_transitions

from vecrollout import TrajectoryBatch
from vecrollout.buffer import BatchedInfos, Ending, RecordOptions, Restart, RolloutBuffer
from vecrollout.errors import BufferFullError, EmptyBufferError


def rows(shape: tuple[int, ...] = (), dtype: Any = np.float32) -> Rows:
    """Arrays of this shape, full of each number."""
    return lambda numbers: np.full((*shape, len(numbers)), numbers, np.int64).T.astype(dtype)


def texts(numbers: np.ndarray) -> Any:
    """Texts of different lengths."""
    array = np.empty(len(numbers), object)
    array[:] = ["x" * (number % 5) + str(number) for number in numbers.tolist()]
    return array


def dicts(**children: Rows) -> Rows:
    return lambda numbers: {key: child(numbers) for key, child in children.items()}


def tuples(*children: Rows) -> Rows:
    return lambda numbers: tuple(child(numbers) for child in children)


def row_of(tree: Any, i: int) -> Any:
    """What one environment hands out of a batch."""
    if isinstance(tree, dict):
        return {key: row_of(child, i) for key, child in tree.items()}
    return tuple(row_of(child, i) for child in tree) if isinstance(tree, tuple) else tree[i]


@dataclass(frozen=True)
class Kind:
    """Environments of some kind, and how many calls it takes to fill chunks with their data."""

    name: str
    num_envs: int
    obs: Rows
    acts: Rows
    calls: int = 90


CAMERA = rows((4, 5, 60), np.uint8)
KINDS = [
    Kind("numbers", 3, rows((2,)), rows((), np.int64)),
    Kind("long", 2, rows(), rows((1,), np.float64), calls=2600),  # chunks have 1024 steps at most
    Kind("wide", 100, rows((900,), np.uint8), rows((), np.int8), calls=120),  # chunks of 32 steps
    Kind("frames", 3, rows((16, 64), np.uint8), rows((), np.int64)),  # each environment's rows lie by themselves
    Kind("dict", 3, dicts(camera=CAMERA, arm=dicts(angle=rows((3,), np.float64), grip=rows((), np.int8))), rows((2,))),
    Kind("tuple", 2, tuples(rows((), np.int64), CAMERA, rows((0,))), dicts(left=rows(), right=rows((2,), np.int16))),
    Kind("texts", 3, texts, texts),
    Kind("texts and frames", 2, tuples(texts, CAMERA), tuples(texts, rows((), np.int64))),
    Kind("nothing", 3, rows((0, 2)), rows((0,), np.int64)),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Late:
    """A sink that looks at batches only at the end."""

    def __init__(self) -> None:
        self.batches: list[TrajectoryBatch] = []

    def append(self, trajectory: Any) -> None:
        raise AssertionError("a sink with extend is asked to append")

    def extend(self, batch: TrajectoryBatch) -> None:
        self.batches.append(batch)

    def __iter__(self) -> Any:
        return itertools.chain.from_iterable(self.batches)


SINKS: list[Callable[[], Any]] = [lambda: None, lambda: None, list, deque, Late]


class Run:
    """A buffer and its definition, and the calls to both.

    `rule` says what follows an episode's end: another one in the same step, or in a next step, or after a reset.
    """

    def __init__(self, kind: Kind, rule: str, seed: int) -> None:
        self.kind, self.rule, self.random = kind, rule, random.Random(f"{kind.name} {rule} {seed}")
        choose = self.random.choice
        self.keys = choose(["all", "all", "none", ("call", "nowhere")])
        self.sink = choose(SINKS)()
        self.most = choose([None, 8 * kind.num_envs])
        early: Any = choose(["close", "drop"])
        self.options = RecordOptions(self.keys, self.sink, self.most, "drop_oldest", early)
        self.buffer = RolloutBuffer(kind.num_envs, self.options)
        self.model = Definition(kind.num_envs, self.sink is not None, early == "drop", self.most)
        self.numbers = itertools.count(1)
        # One episode may last while many others end.
        self.ends = [choose([0.001, 0.2]), *(choose([0.05, 0.2, 0.4]) for _ in range(1, kind.num_envs))]
        self.disturbance = choose([0.1, 1])
        self.dtypes = choose([[np.float32], [np.float64], [np.float16, np.float32, np.float64]])
        self.batches_infos = self.random.random() < 0.3
        self.sent: dict[int, int] = {}  # actions that no step has answered yet, where some environments act at a time
        self.is_closed = False
        self.popped: list[tuple[Any, list[Any]]] = []

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def some(self, count: int) -> list[int]:
        return [next(self.numbers) for _ in range(count)]

    def check(self) -> None:
        """Assert what always holds."""
        counts, buffer, model = self.model.counts, self.buffer, self.model
        assert {name: getattr(buffer, name) for name in ("stepped", "popped", "delivered", "dropped")} == {
            name: counts[name] for name in ("stepped", "popped", "delivered", "dropped")
        }
        assert buffer.held == model.held
        assert buffer.stepped == buffer.held + buffer.popped + buffer.delivered + buffer.dropped
        if not self.is_closed:
            assert buffer.waiting == model.waiting

    # Resets

    def reset(self, mask: list[bool] | None = None) -> None:
        num_envs = self.kind.num_envs
        obs, seed = self.some(num_envs), next(self.numbers)
        chosen = [env for env in range(num_envs) if mask is None or mask[env]]
        infos: list[Any] = [{"reset": number} for number in obs] if self.happens(0.5) else []
        seeds = [seed + env for env in range(num_envs)] if self.happens(0.5) else []
        starts = self.some(num_envs) if self.happens(0.2) else []
        given = None if mask is None else np.array(mask)
        self.buffer.reset(self.kind.obs(np.array(obs)), seeds, infos, given, starts)
        self.model.end_early(chosen)
        if mask is None:
            self.sent = {}
        for env in chosen:
            identity = {"seed": seeds[env] if seeds else None, "start_step": starts[env] if starts else 0}
            self.model.begin(env, obs[env], infos[env] if infos else None, **identity)
        self.model.deliver()
        self.check()

    def await_episodes(self) -> None:
        """Every environment begins an episode by a step to come, which needs no action."""
        self.buffer.await_episodes()
        self.model.end_early(list(range(self.kind.num_envs)))
        self.model.deliver()
        self.sent = dict.fromkeys(range(self.kind.num_envs), 0)
        self.check()

    # Steps

    def act(self, acts: list[int], envs: list[int] | None = None) -> None:
        """Give actions to the buffer. Where they would not fit, everything is popped first."""
        tree, given = self.kind.acts(np.array(acts)), None if envs is None else np.array(envs)
        if not self.model.make_room():
            with pytest.raises(BufferFullError):
                self.buffer.act(tree, given)
            self.pop_trajectories()
        self.buffer.act(tree, given)
        self.buffer.check_step()

    def step(self) -> None:
        """A step of all environments."""
        envs = list(range(self.kind.num_envs))
        if self.rule == "reset" and self.model.waiting and self.happens(0.8):
            self.reset([env in self.model.waiting for env in envs])
        acts = self.some(len(envs))
        self.act(acts)
        self.answer(envs, acts, None)

    def step_some(self) -> None:
        """Some environments get actions, and then those or others have made their steps, in any order."""
        idle = [env for env in range(self.kind.num_envs) if env not in self.sent]
        envs = self.random.sample(idle, self.random.randint(0, len(idle)))
        if envs:
            acts = self.some(len(envs))
            self.act(acts, envs)
            self.sent.update(zip(envs, acts, strict=True))
        if self.sent:
            envs = self.random.sample([*self.sent], self.random.randint(1, len(self.sent)))
            self.answer(envs, [self.sent.pop(env) for env in envs], np.array(envs))

    def answer(self, envs: list[int], acts: list[int], given: np.ndarray | None) -> None:
        """A step of these environments."""
        obs = self.some(len(envs))
        rews = np.array([number % 1000 + 0.5 for number in self.some(len(envs))], self.random.choice(self.dtypes))
        call = next(self.numbers)
        infos: list[dict[str, Any]] = [{"call": call, "env": env} for env in envs]
        restarts, endings, after = [], [], []
        for at, env in enumerate(envs):
            if env in self.model.waiting:
                if self.rule == "next step" or (self.rule == "same step" and self.happens(0.5)):
                    restarts.append(Restart(env, {"restart": call}, seed=env))
                    after.append((env, obs[at], {"restart": call}, env))
                continue
            if not self.happens(self.ends[env]):
                self.model.step(env, acts[at], float(rews[at]), self.kept(infos[at]), obs[at])
                continue
            terminated, truncated = self.random.choice([(True, False), (False, True), (True, True)])
            is_same = self.rule == "same step"
            last, own = next(self.numbers) if is_same else obs[at], {"last": call, "call": -call}
            has_own = self.happens(0.5)
            self.model.step(env, acts[at], float(rews[at]), self.kept(own if has_own else infos[at]), last)
            drops = is_same and self.happens(0.2)
            if drops:
                self.model.end_without_last(env)
            else:
                self.model.end(env, terminated, truncated)
            if is_same:
                after.append((env, obs[at], {"next": call}, None))
            final = row_of(self.kind.obs(np.array([last])), 0) if is_same and not drops else None
            reset_info = {"next": call} if is_same else None
            endings.append(Ending(env, terminated, truncated, final, own if has_own else None, reset_info, drops))
        for env, number, info, seed in sorted(after, key=lambda each: each[3] is None):
            self.model.begin(env, number, info, seed=seed)
        rewards: Any = rews.tolist() if rews.dtype == np.float64 and self.happens(0.5) else rews
        given_infos = self.batched(infos, call, envs) if self.batches_infos else infos
        self.buffer.step(self.kind.obs(np.array(obs)), rewards, given_infos, endings, restarts, given)
        self.model.deliver()
        self.check()

    def kept(self, info: dict[str, Any]) -> dict[str, Any]:
        return (
            info if self.keys == "all" else {key: info[key] for key in info if self.keys != "none" and key in self.keys}
        )

    def batched(self, infos: list[dict[str, Any]], call: int, envs: list[int]) -> BatchedInfos:
        batch = {"call": np.full(len(envs), call), "env": np.array(envs), "_env": np.ones(len(envs), bool)}
        return BatchedInfos(batch, len(envs), self.buffer.info_keys)

    def fail(self) -> None:
        """A step that failed: it was never there, and a reset of all follows."""
        self.act(self.some(self.kind.num_envs))
        self.buffer.abort()
        self.check()

    # Pops

    def pop_trajectories(self) -> None:
        self.take(self.buffer.pop_trajectories(), self.model.pop())

    def pop_finished_trajectories(self) -> None:
        self.take(self.buffer.pop_finished_trajectories(), self.model.pop_finished())

    def take(self, popped: Any, fragments: list[Any]) -> None:
        trajectories, lengths = popped
        assert lengths == [each.start_step + len(each) for each in fragments if each.terminated or each.truncated]
        self.popped.append((trajectories, fragments))
        self.check()

    def pop_transitions(self) -> None:
        fragments = self.model.pop()
        if fragments:
            assert_transitions(self.buffer.pop_transitions(), fragments, self.kind.obs, self.kind.acts)
        else:
            with pytest.raises(EmptyBufferError):
                self.buffer.pop_transitions()
        self.check()

    def look(self) -> None:
        """Reading changes nothing."""
        for env, fragment in enumerate(self.model.running):
            steps = 0 if fragment is None else fragment.start_step + len(fragment)
            assert self.buffer.episode_steps(env) == steps
        self.buffer.state_dict()
        self.check()

    def load(self) -> None:
        """Another buffer goes on with the state."""
        other = RolloutBuffer(self.kind.num_envs, self.options)
        other.load_state_dict(self.buffer.state_dict())
        self.buffer = other
        self.check()

    # All of it

    def disturb(self, some: bool) -> None:
        kind = self.random.choice(["load", "reset", "reset some", "await" if some else "fail"])
        if kind == "load" and not self.sent:
            self.load()
        elif kind == "reset":
            self.reset()
        elif kind == "reset some":
            mask = [self.happens(0.5) and env not in self.sent for env in range(self.kind.num_envs)]
            self.reset(None if all(mask) else mask)
        elif kind == "await":
            self.await_episodes()
        elif kind == "fail":
            self.fail()
            self.reset()

    def go(self, some: bool) -> None:
        others = [self.pop_trajectories, self.pop_finished_trajectories, self.pop_transitions, self.look]
        if some and self.happens(0.7):
            self.await_episodes()
        else:
            self.reset()
        for _ in range(self.kind.calls):
            (self.step_some if some else self.step)()
            if self.happens(0.1 * self.disturbance):
                self.random.choice(others)()
            if self.happens(0.1 * self.disturbance):
                self.disturb(some)
        self.is_closed = self.happens(0.5)
        if self.is_closed:
            self.buffer.close()
            self.model.close()
        self.pop_trajectories()
        assert self.buffer.held == 0
        kind = self.kind
        for trajectories, fragments in self.popped:
            assert_trajectories(trajectories, fragments, kind.obs, kind.acts)
        if self.sink is not None:
            assert_trajectories([*self.sink], self.model.delivered, kind.obs, kind.acts)


RULES = ("same step", "next step", "reset")


@pytest.mark.parametrize("rule", RULES)
@each_kind
@pytest.mark.parametrize("seed", range(2))
def test_all_environments_step(kind: Kind, rule: str, seed: int) -> None:
    Run(kind, rule, seed).go(some=False)


@each_kind
@pytest.mark.parametrize("seed", range(3))
def test_some_environments_step(kind: Kind, seed: int) -> None:
    """As an asynchronous EnvPool does."""
    Run(kind, "next step", seed).go(some=True)


@pytest.mark.slow
@pytest.mark.parametrize("some", [False, True])
@each_kind
def test_many_times(kind: Kind, some: bool) -> None:
    for seed in range(2, 8):
        for rule in RULES[1:2] if some else RULES:
            Run(kind, rule, seed).go(some)
