"""What a recorder does, by plain lists and slowly: the model that the real one is compared with."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vecrollout.errors import BufferFullError, EmptyBufferError, PrematureResetError, ProtocolError
from vecrollout.testing import Recorded, Scenario
from vecrollout.trajectory import EndedBy


class MisfitError(Exception):
    """Actions unlike those held."""


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

    def __len__(self) -> int:
        return len(self.acts)

    @property
    def stop_step(self) -> int:
        return self.start_step + len(self)

    @property
    def terminal(self) -> bool:
        return self.terminated or self.truncated

    def recorded(self) -> Recorded:
        return Recorded(
            obs=stacked(self.obs),
            acts=np.stack(self.acts),
            rews=np.array(self.rews),
            env_index=self.env_index,
            episode=self.episode,
            start_step=self.start_step,
            terminated=self.terminated,
            truncated=self.truncated,
            ended_by=self.ended_by,
        )


def stacked(elements: list[Any]) -> Any:
    first = elements[0]
    if isinstance(first, dict):
        return {key: stacked([each[key] for each in elements]) for key in first}
    if isinstance(first, tuple):
        return tuple(stacked([each[i] for each in elements]) for i in range(len(first)))
    return np.stack(elements)


@dataclass
class PlainRecorder:
    """Counting environments that are stepped one by one, and lists of what they did."""

    scenario: Scenario
    error_on_premature_reset: bool
    early_reset: str
    on_full: str
    max_transitions: int | None
    has_sink: bool

    def __post_init__(self) -> None:
        self.envs = [env_fn() for env_fn in self.scenario.env_fns()]
        self.running: list[Fragment] = []
        self.finished: list[Fragment] = []
        self.sunk: list[Fragment] = []
        self.counts: Counter[str] = Counter()
        self.sink_refuses = False
        self.seeds: list[int | None] = [None] * len(self.envs)
        self.ready = False
        self.pending: Any = None
        self.kind: Any = None

    @property
    def held(self) -> int:
        return sum(map(len, self.finished + self.running))

    def reset(self) -> None:
        if self.error_on_premature_reset and self.held:
            raise PrematureResetError
        self.ready, self.pending = False, None
        begun = [env.reset(seed=seed) for env, seed in zip(self.envs, self.seeds, strict=True)]
        seeds, self.seeds = self.seeds, [None] * len(self.envs)
        for fragment in self.running:
            if self.early_reset == "drop":
                self.counts["dropped"] += len(fragment)
            elif len(fragment):
                fragment.ended_by = "reset_early"
                self.finished.append(fragment)
        self.running = []
        self.drain()
        self.running = [
            Fragment(i, info["episode"], seed, 0, [obs])
            for i, ((obs, info), seed) in enumerate(zip(begun, seeds, strict=True))
        ]
        self.ready = True

    def step_async(self, actions: np.ndarray) -> None:
        if not self.ready or self.pending is not None:
            raise ProtocolError
        if self.max_transitions is not None:
            while self.on_full == "drop_oldest" and self.finished and self.is_full():
                self.counts["dropped"] += len(self.finished.pop(0))
            if self.is_full():
                raise BufferFullError
        kind = actions.dtype, actions.shape
        if self.held and kind != self.kind:
            raise MisfitError
        self.kind = kind
        self.pending = copy.deepcopy(actions)

    def is_full(self) -> bool:
        return self.held + len(self.envs) > self.max_transitions

    def step_wait(self) -> None:
        if self.pending is None:
            raise ProtocolError
        actions, self.pending = self.pending, None
        self.ready = False
        taken = []
        for env, action in zip(self.envs, actions, strict=True):
            obs, rew, terminated, truncated, _ = env.step(action)
            begun = env.reset() if terminated or truncated else None
            taken.append((action, obs, rew, terminated, truncated, begun))
        for i, (action, obs, rew, terminated, truncated, begun) in enumerate(taken):
            fragment = self.running[i]
            fragment.obs.append(obs)
            fragment.acts.append(action)
            fragment.rews.append(rew)
            if begun is not None:
                fragment.terminated, fragment.truncated = terminated, truncated
                fragment.ended_by = "terminated" if terminated else "truncated"
                self.finished.append(fragment)
                self.running[i] = Fragment(i, begun[1]["episode"], None, 0, [begun[0]])
        self.counts["stepped"] += len(self.envs)
        self.drain()
        self.ready = True

    def drain(self) -> None:
        while self.has_sink and self.finished:
            if self.sink_refuses:
                raise RefusedError
            self.counts["sunk"] += len(self.finished[0])
            self.sunk.append(self.finished.pop(0))

    def close(self) -> None:
        for fragment in self.running:
            if len(fragment):
                fragment.ended_by = "closed"
                self.finished.append(fragment)
        self.running, self.ready, self.pending = [], False, None
        self.drain()

    def pop_finished(self) -> list[Fragment]:
        popped, self.finished = self.finished, []
        self.counts["popped"] += sum(map(len, popped))
        return popped

    def pop(self) -> list[Fragment]:
        popped = self.pop_finished()
        for i, fragment in enumerate(self.running):
            if len(fragment):
                popped.append(fragment)
                self.counts["popped"] += len(fragment)
                start, last = fragment.stop_step, fragment.obs[-1]
                self.running[i] = Fragment(i, fragment.episode, fragment.seed, start, [last])
        return popped

    def pop_transitions(self) -> list[Fragment]:
        if not self.held:
            raise EmptyBufferError
        return self.pop()
