"""The policy of a recording, as the command line names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from vecrollout.cli.environments import OF_SB3, Recipe
from vecrollout.cli.models import Senses, load_function, load_model, model_path, statistics_path
from vecrollout.cli.terminal import busy, note
from vecrollout.collecting.policy import PolicyCallable, policy_to_callable
from vecrollout.errors import ArgumentTypeError, OptionError, SpaceMismatchError
from vecrollout.recording.environments import VEC_ENV, kind_of


@dataclass(frozen=True)
class PolicyOptions:
    """The options of `record` that choose the actions."""

    policy: str
    """`random`, a model's file, or where a function is."""
    deterministic: bool = False
    algo: str | None = None
    normalize: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Actor:
    """A loaded policy, for environments that are made later."""

    policy: Any
    """A model, a function, or None for random actions."""
    statistics: Path | None
    """The file of `VecNormalize` through which a model sees; None: it sees what is recorded."""
    deterministic: bool

    @classmethod
    def load(cls, options: PolicyOptions, recipe: Recipe) -> Actor:
        """Load the policy, and find the statistics of a model."""
        path = None if options.policy == "random" else model_path(options.policy)
        if path is None:
            for name in ("algo", "normalize"):
                if getattr(options, name) is not None:
                    raise OptionError(f"{name}: expected with a model only, got --policy {options.policy}")
            policy = None if options.policy == "random" else load_function(options.policy)
            return cls(policy, None, options.deterministic)
        with busy(f"Loading {path}"):
            model = load_model(path, options.algo, options.device)
        statistics = _statistics(options.normalize, statistics_path(path, recipe.env_id))
        if statistics is not None and recipe.vectorization not in OF_SB3:
            raise OptionError(
                f"vec: expected dummy or subproc for a model with {statistics}, got {recipe.vectorization}"
            )
        return cls(model, statistics, options.deterministic)

    def before(self, env: Any, seed: int) -> tuple[Callable[[Any], Any], PolicyCallable]:
        """What the policy sees of recorded observations, and its actions as a function of that."""
        see, seen = _as_recorded, env
        if isinstance(self.policy, BaseAlgorithm):
            self.policy.set_random_seed(seed)
            if kind_of(env) == VEC_ENV:
                see = senses = Senses(env, self.policy, self.statistics)
                seen = senses.venv
        elif self.deterministic:
            raise ArgumentTypeError(
                "deterministic: expected a model, got a policy that decides by itself; leave out --deterministic"
            )
        try:
            return see, policy_to_callable(self.policy, seen, self.deterministic, np.random.default_rng(seed))
        except SpaceMismatchError as error:
            raise SpaceMismatchError(f"policy: the model was trained in another environment: {error}") from error


def _statistics(given: str | None, found: Path | None) -> Path | None:
    if given is None:
        if found is not None:
            note(f"vecrollout: observations are normalized by {found}")
        return found
    if given == "none":
        return None
    path = Path(given).expanduser()
    if not path.is_file():
        raise OptionError(f"normalize: expected a file that VecNormalize saved, got none at {given!r}")
    return path


def _as_recorded(obs: Any) -> Any:
    return obs
