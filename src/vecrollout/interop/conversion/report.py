"""What a conversion wrote, and what the format could not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.trajectory import Trajectory


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion wrote, and what the format could not hold.

    Examples:
        >>> ConversionReport("d3rlpy", Path("data.h5"), episodes=3, steps=60, last_observations=2)
        <ConversionReport d3rlpy: 3 episodes, 60 steps; lost: 2 last observations>
    """

    format: str
    """Name of the format."""

    path: Path | None
    """The file or directory that was written; None for an object in memory."""

    episodes: int
    """Trajectories written."""

    steps: int
    """Steps written, last observations not counted."""

    fragments: int = 0
    """Trajectories that are no whole episodes, but look like whole episodes in the format."""

    both_flags: int = 0
    """Episodes that terminated and were truncated in the same step; the format keeps one of the two."""

    last_observations: int = 0
    """Trajectories whose last observation was left out."""

    infos: int = 0
    """Steps with info entries that were left out."""

    dtypes: Mapping[str, str] = field(default_factory=dict)
    """Arrays whose dtype or shape of a row changed, such as `{"rews": "float64 -> float32"}`."""

    others: Mapping[str, int] = field(default_factory=dict)
    """What else was lost, in the words of the format, and how often."""

    @property
    def is_lossless(self) -> bool:
        """Whether the format holds everything; identities (`Trajectory.episode`) do not count."""
        return not self._losses()

    def _losses(self) -> list[str]:
        counts = {
            "fragments": self.fragments,
            "second flags": self.both_flags,
            "last observations": self.last_observations,
            "steps' infos": self.infos,
            **self.others,
        }
        lost = [f"{count} {name}" for name, count in counts.items() if count]
        return [*lost, *(f"{name} ({change})" for name, change in self.dtypes.items())]

    def __repr__(self) -> str:
        losses = ", ".join(self._losses())
        written = f"{self.episodes} episodes, {self.steps} steps"
        return f"<ConversionReport {self.format}: {written}{f'; lost: {losses}' if losses else ''}>"


def cut_starts(batch: TrajectoryBatch) -> int:
    """Trajectories that begin in the middle of their episode."""
    return sum(episode.start_step > 0 for episode in batch.episodes)


def fragments(batch: TrajectoryBatch) -> int:
    """Trajectories that are no whole episodes."""
    ends = (batch.terminated | batch.truncated).tolist()
    return sum(not end or episode.start_step > 0 for end, episode in zip(ends, batch.episodes, strict=True))


def steps_with_infos(given: TrajectoryBatch | Trajectory) -> int:
    """Steps whose info has an entry."""
    return 0 if given.infos is None else sum(map(bool, given.infos))
