"""What the driver asks of a worker, and what the worker answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Which worker this is."""

    worker: int
    """Its index."""
    incarnation: int
    """How often it was started before."""
    num_workers: int
    """How many there are."""
    seed: int
    """The seed of the whole collection."""


class Policy(NamedTuple):
    """A version of a policy, in Ray's object store."""

    version: int
    """Its number."""
    ref: Any
    """A reference to the policy, in a list so that Ray does not fetch it with every call."""


class Order(NamedTuple):
    """Some work for a worker."""

    round: int
    """Number of the round."""
    policy: Policy
    """The policy that acts."""
    steps: int | None = None
    """How many more transitions to make; None: any number."""
    episodes: int | None = None
    """How many more episodes to finish in a round of whole episodes; None: any number."""
    is_whole: bool = False
    """Whether the round consists of whole episodes. Such a round begins with a reset."""
    finishes: bool = False
    """Whether there is enough, so that environments only finish their episodes."""
    is_endless: bool = False
    """Whether each report is a part of a stream, which is to be on disk when it arrives."""
    is_last: bool = False
    """Whether the worker acts no more after the round, so that running episodes end with it."""
    chunk_s: float = 0.5
    """Seconds after which to report."""


class Report(NamedTuple):
    """What a worker made."""

    steps: int
    """Transitions."""
    returns: list[float]
    """Returns of the episodes that ended, in the environments' unit; NaN where rewards are vectors."""
    is_done: bool
    """Whether the worker's part of the round is complete and on disk."""


@dataclass
class Progressed:
    """How far a round of a collection is."""

    steps: int = 0
    """Transitions. In a round of whole episodes, those of the episodes that ended."""
    episodes: int = 0
    """Episodes that ended."""
    restarts: int = 0
    """How often a worker was started again."""
    returns: list[float] = field(default_factory=list)
    """Returns of the episodes that ended, in the order of their arrival, in the environments' unit; NaN where rewards
    are vectors."""

    def add(self, report: Report) -> None:
        """Count what a worker made."""
        self.steps += report.steps
        self.episodes += len(report.returns)
        self.returns += report.returns
