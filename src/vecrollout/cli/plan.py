"""What `vecrollout record` is to record, and what it recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecrollout.cli.acting import PolicyOptions
from vecrollout.cli.environments import Recipe

METADATA = "recorded_with"
"""Key of a trace's metadata under which is kept how its environments were made."""


@dataclass(frozen=True)
class Plan:
    """What to record, and where."""

    recipe: Recipe
    acting: PolicyOptions
    out: str
    n_envs: int
    seed: int
    episodes: int | None
    """How many are enough; None: `steps` tells."""
    steps: int | None
    overwrite: bool
    ray_workers: int | None
    """How many processes of a Ray cluster record; None: this one."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What the trace keeps about how it was recorded."""
        made = {**self.recipe.to_json(), "seed": self.seed, "n_envs": self.n_envs}
        made |= {} if self.ray_workers is None else {"ray_workers": self.ray_workers}
        made |= {"deterministic": self.acting.deterministic, "algo": self.acting.algo}
        return {"env_id": self.recipe.env_id.rpartition(":")[2], "policy": self.acting.policy, METADATA: made}


@dataclass(frozen=True)
class Recorded:
    """What a recording made."""

    directory: Path | str
    lengths: list[int]
    """Of the episodes that ended."""
    returns: list[float]
    """Of the episodes that ended; empty without rewards that are numbers."""
    endings: Counter[str]
    steps: int
    """Those that were written."""
    steps_per_s: float
    """Speed of stepping."""
    interrupted: bool
