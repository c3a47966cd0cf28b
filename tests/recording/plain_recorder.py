"""What a recorder does, by plain lists and slowly: the model that the real one is compared with."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vecrollout.data.trajectory import EndedBy
from vecrollout.errors import BufferFullError, EmptyBufferError, PrematureResetError, ProtocolError
from vecrollout.testing import Recorded, Scenario


class MisfitError(Exception):
    """Actions unlike those held."""


class WaitingError(Exception):
    """A step of an environment whose episode is over."""


class RefusedError(Exception):
    """The sink takes nothing at the moment."""


@dataclass
class Fragment:
    """Steps of one episode, in lists."""

    env_index: int
    episode: int
    seed: int | None
    start_step: int
    obs: list[Any]
    acts: list[Any] = field(default_factory=list)
    rews: list[float] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    ended_by: EndedBy | None = None
    act_dtype: np.dtype | None = None

    def __len__(self) -> int:
        return len(self.acts)

    @property
    def stop_step(self) -> int:
        return self.start_step + len(self)

    @property
    def terminal(self) -> bool:
        return self.terminated or self.truncated

    def next(self) -> Fragment:
        """The episode's next fragment, which follows on this one."""
        return Fragment(self.env_index, self.episode, self.seed, self.stop_step, [self.obs[-1]])

    def recorded(self) -> Recorded:
        return Recorded(
            obs=stacked(self.obs),
            acts=np.stack(self.acts).astype(self.act_dtype),
            rews=np.array(self.rews),
            env_index=self.env_index,
            episode=self.episode,
            start_step=self.start_step,
            terminated=self.terminated,
            truncated=self.truncated,
            ended_by=self.ended_by,
        )


def nothing(env: int) -> Fragment:
    return Fragment(env, -1, None, 0, [None])


def stacked(elements: list[Any]) -> Any:
    first = elements[0]
    if isinstance(first, dict):
        return {key: stacked([each[key] for each in elements]) for key in first}
    if isinstance(first, tuple):
        return tuple(stacked([each[i] for each in elements]) for i in range(len(first)))
    return np.stack(elements)


@dataclass
class PlainRecorder:
    """Counting environments that are stepped one by one, and lists of what they did.

    An environment whose episode ended is reset by the same step, by the next one, which takes no action there, or by a
    reset of some environments only (`rule`: `"same_step"`, `"next_step"`, `"disabled"`).
    """

    scenario: Scenario
    error_on_premature_reset: bool
    early_reset: str
    on_full: str
    max_transitions: int | None
    has_sink: bool
    rule: str = "same_step"

    def __post_init__(self) -> None:
        self.envs = [env_fn() for env_fn in self.scenario.env_fns()]
        self.waiting: set[int] = set()  # whose episode is over; what runs there is empty
        self.running: list[Fragment] = [nothing(i) for i in range(len(self.envs))]
        self.finished: list[Fragment] = []
        self.delivered: list[Fragment] = []
        self.counts: Counter[str] = Counter()
        self.sink_refuses = False
        self.seeds: list[int | None] = [None] * len(self.envs)
        self.ready = False
        self.pending: Any = None
        self.kind: Any = None  # dtype and shape of the column of actions

    @property
    def held(self) -> int:
        return sum(map(len, self.finished + self.running))

    def reset(self) -> None:
        if self.error_on_premature_reset and self.held:
            raise PrematureResetError
        self.ready, self.pending = False, None
        begun = [env.reset(seed=seed) for env, seed in zip(self.envs, self.seeds, strict=True)]
        seeds, self.seeds = self.seeds, [None] * len(self.envs)
        self.begin(dict(enumerate(zip(begun, seeds, strict=True))))
        self.ready = True

    def reset_some(self, mask: list[bool], seed: int | None) -> None:
        chosen = [i for i, is_chosen in enumerate(mask) if is_chosen]
        if self.error_on_premature_reset and self.held and not self.waiting.issuperset(chosen):
            raise PrematureResetError
        is_ready = self.ready or len(chosen) == len(self.envs)
        self.ready = False
        seeds = {i: None if seed is None else seed + i for i in chosen}
        self.begin({i: (self.envs[i].reset(seed=seeds[i]), seeds[i]) for i in chosen})
        self.ready = is_ready

    def begin(self, begun: dict[int, Any]) -> None:
        for i in begun:
            fragment, self.running[i] = self.running[i], nothing(i)
            if self.early_reset == "drop":
                self.counts["dropped"] += len(fragment)
            elif len(fragment):
                fragment.ended_by = "reset_early"
                self.finished.append(fragment)
        self.drain()
        for i, ((obs, info), seed) in begun.items():
            self.running[i] = Fragment(i, info["episode"], seed, 0, [obs])
        self.waiting -= begun.keys()

    def step_async(self, actions: np.ndarray) -> None:
        if not self.ready or self.pending is not None:
            raise ProtocolError
        if self.max_transitions is not None:
            if self.on_full == "flush" and self.is_full():
                self.end_fragments(None)
            while self.on_full == "drop_oldest" and self.finished and self.is_full():
                self.counts["dropped"] += len(self.finished.pop(0))
            if self.is_full():
                raise BufferFullError
        self.kind = self.fitting(actions.dtype, actions.shape)
        self.pending = copy.deepcopy(actions)

    def fitting(self, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.dtype, tuple[int, ...]]:
        """Dtype and shape of the actions' column with actions like these, which are small numbers."""
        if self.kind is None or not (self.held or self.has_sink):
            return dtype, shape
        common = np.promote_types(self.kind[0], dtype)
        # The values of a column that is held are not looked at again.
        loses = self.held and self.kind[0].kind == "i" and common.kind == "f"
        if shape == self.kind[1] and not loses:
            return common, shape
        if self.held:
            raise MisfitError
        return dtype, shape

    def handed_out(self, fragments: list[Fragment]) -> list[Fragment]:
        for fragment in fragments:
            fragment.act_dtype = self.kind[0]
        return fragments

    def is_full(self) -> bool:
        return self.held + len(self.envs) > self.max_transitions

    def step_wait(self) -> None:
        if self.pending is None:
            raise ProtocolError
        actions, self.pending = self.pending, None
        self.ready = False
        taken, begun = {}, {}
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if i in self.waiting and self.rule == "disabled":
                raise WaitingError
            if i in self.waiting:
                begun[i] = env.reset()
                continue
            obs, rew, terminated, truncated, _ = env.step(action)
            taken[i] = action, obs, rew, terminated, truncated
            if (terminated or truncated) and self.rule == "same_step":
                begun[i] = env.reset()
        for i, (action, obs, rew, terminated, truncated) in taken.items():
            fragment = self.running[i]
            fragment.obs.append(obs)
            fragment.acts.append(action)
            fragment.rews.append(rew)
            if terminated or truncated:
                fragment.terminated, fragment.truncated = terminated, truncated
                fragment.ended_by = "terminated" if terminated else "truncated"
                self.finished.append(fragment)
                self.running[i] = nothing(i)
                self.waiting.add(i)
        for i, (obs, info) in begun.items():
            self.running[i] = Fragment(i, info["episode"], None, 0, [obs])
        self.waiting -= begun.keys()
        self.counts["stepped"] += len(taken)
        # A sink that refused is asked again when an episode ends or begins, and not at every step.
        if begun or any(terminated or truncated for *_, terminated, truncated in taken.values()):
            self.drain()
        self.ready = True

    def drain(self) -> None:
        if self.has_sink and self.finished:
            if self.sink_refuses:
                raise RefusedError
            self.counts["delivered"] += sum(map(len, self.finished))
            self.delivered += self.handed_out(self.finished)
            self.finished = []

    def close(self) -> None:
        self.ready, self.pending = False, None
        self.end_fragments("closed")

    def end_fragments(self, ended_by: EndedBy | None) -> None:
        """Running fragments end here; what follows of their episodes are others."""
        for i, fragment in enumerate(self.running):
            if len(fragment):
                fragment.ended_by = ended_by
                self.finished.append(fragment)
                self.running[i] = fragment.next()
        self.drain()

    def pop_finished(self) -> list[Fragment]:
        popped, self.finished = self.finished, []
        self.counts["popped"] += sum(map(len, popped))
        return self.handed_out(popped)

    def pop(self) -> list[Fragment]:
        popped = self.pop_finished()
        for i, fragment in enumerate(self.running):
            if len(fragment):
                popped.append(fragment)
                self.counts["popped"] += len(fragment)
                self.running[i] = fragment.next()
        return self.handed_out(popped)

    def pop_transitions(self) -> list[Fragment]:
        if not self.held:
            raise EmptyBufferError
        return self.pop()
