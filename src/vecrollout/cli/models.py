"""Policies of a command line: random actions, models of SB3 and sb3-contrib, functions of the user."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize, VecTransposeImage

from vecrollout.errors import MissingDependencyError, OptionError, PolicyError

_OF_SB3 = ("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG")
ALGORITHMS = (*_OF_SB3, "MaskablePPO", "RecurrentPPO", "QRDQN", "TQC", "TRPO", "ARS", "CrossQ")

_OF_MODULE = {
    "stable_baselines3.dqn": "DQN",
    "stable_baselines3.sac": "SAC",
    "sb3_contrib.common.maskable": "MaskablePPO",
    "sb3_contrib.common.recurrent": "RecurrentPPO",
    "sb3_contrib.qrdqn": "QRDQN",
    "sb3_contrib.tqc": "TQC",
    "sb3_contrib.ars": "ARS",
    "sb3_contrib.crossq": "CrossQ",
}

_STATISTICS = ("vecnormalize.pkl", "vec_normalize.pkl")


def algorithm_of(data: Mapping[str, Any]) -> str | None:
    """The algorithm that saved a model, by the module of its policy and its options; None: not known.

    Source:
        `BaseAlgorithm.save` (Stable-Baselines3 2.9), which does not save the name of the algorithm.
    """
    policy = data.get("policy_class")
    module = str(policy.get("__module__")) if isinstance(policy, Mapping) else ""
    for prefix, name in _OF_MODULE.items():
        if module.startswith(f"{prefix}."):
            return name
    if module.startswith("stable_baselines3.td3.") or "target_policy_noise" in data:
        # DDPG is TD3 without delay and clipped noise.
        return "DDPG" if data.get("policy_delay") == 1 and data.get("target_noise_clip") == 0 else "TD3"
    for option, name in (("cg_max_steps", "TRPO"), ("clip_range", "PPO"), ("gae_lambda", "A2C")):
        if option in data:
            return name
    return None


def model_path(text: str) -> Path | None:
    """The file of a model; None if the text names none."""
    path = Path(text).expanduser()
    if path.suffix == ".zip" or path.is_file() or path.is_dir():
        return path
    with_suffix = path.with_name(f"{path.name}.zip")
    return with_suffix if with_suffix.is_file() else None


def load_model(path: Path, algorithm: str | None, device: str) -> BaseAlgorithm:
    """A model of SB3 or sb3-contrib. Loading one can run code that is in the file."""
    saved = _saved_data(path)
    name = algorithm or algorithm_of(saved)
    if name is None:
        raise OptionError(f"{path}: the algorithm is not known; pass --algo, one of {', '.join(ALGORITHMS)}")
    if name not in ALGORITHMS:
        raise OptionError(f"algo: expected one of {', '.join(ALGORITHMS)}, got {name!r}")
    package = "stable_baselines3" if name in _OF_SB3 else "sb3_contrib"
    try:
        cls = getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise MissingDependencyError(f"{path}: {name} needs sb3-contrib: pip install sb3-contrib") from error
    options: dict[str, Any] = {}
    if "buffer_size" in saved:
        # A policy that acts needs no replay buffer.
        options = {"buffer_size": 1, "optimize_memory_usage": False}
    # Functions that were pickled by another version of Python cannot be read, and only training needs them.
    unneeded = {
        key: 0.0 if key == "learning_rate" else lambda _: 0.0
        for key in ("learning_rate", "lr_schedule", "clip_range", "clip_range_vf", "exploration_schedule")
        if key in saved and not (key == "clip_range_vf" and saved[key] is None)
    }
    try:
        model: BaseAlgorithm = cls.load(path, device=device, custom_objects=unneeded, **options)
    except Exception as error:  # what unpickling raises depends on the file
        raise OptionError(
            f"{path}: cannot be loaded as {name} ({type(error).__name__}: {error}); pass another --algo, or save it "
            "with the installed version of Stable-Baselines3"
        ) from error
    return model


def _saved_data(path: Path) -> dict[str, Any]:
    """The JSON in a model's file, in which unpickled objects stay text."""
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
    except FileNotFoundError as error:
        raise OptionError(f"{path}: expected a model of Stable-Baselines3, got no file of this name") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise OptionError(
            f"{path}: expected a model that Stable-Baselines3 saved, got another file: {error}"
        ) from error
    if not isinstance(data, dict):
        raise OptionError(f"{path}: expected a model that Stable-Baselines3 saved, got another file")
    return data


def statistics_path(model: Path, env_id: str) -> Path | None:
    """Where `VecNormalize` was saved beside a model: by the zoo, by the Hub, or by `CheckpointCallback`."""
    folders = (model.parent, model.parent / env_id.rpartition(":")[2])
    found = [folder / name for folder in folders for name in _STATISTICS]
    prefix, underscore, steps = model.stem.removesuffix("_steps").rpartition("_")
    if underscore and model.stem.endswith("_steps"):
        found.insert(0, model.parent / f"{prefix}_vecnormalize_{steps}_steps.pkl")
    return next((path for path in found if path.is_file()), None)


class Senses:
    """What a model sees of recorded observations: normalized ones, and images with channels first.

    Args:
        venv: The environments that are recorded.
        model: The model.
        statistics: A file that `VecNormalize.save` wrote; None: observations are not normalized.
    """

    def __init__(self, venv: Any, model: BaseAlgorithm, statistics: Path | None) -> None:
        self.venv = venv
        """The environments as the model sees them."""
        self._normalize: VecNormalize | None = None
        self._transpose: VecTransposeImage | None = None
        if statistics is not None:
            try:
                self.venv = self._normalize = VecNormalize.load(str(statistics), venv)
            except Exception as error:  # as when a model is loaded
                raise OptionError(f"{statistics}: cannot be used for these environments: {error}") from error
            self._normalize.training = False
        if model.observation_space != self.venv.observation_space:
            try:
                transposed = VecTransposeImage(self.venv)
            except (AssertionError, AttributeError):  # no images
                return
            if model.observation_space == transposed.observation_space:
                self.venv = self._transpose = transposed

    def __call__(self, obs: Any) -> Any:
        """Observations as the model sees them."""
        if self._normalize is not None:
            obs = self._normalize.normalize_obs(obs)
        return obs if self._transpose is None else self._transpose.transpose_observations(obs)


def load_function(text: str) -> Any:
    """What `module:name` or `file.py:name` names: a policy as `policy_to_callable` takes it, or obs -> actions."""
    place, colon, name = text.rpartition(":")
    if not colon or not name:
        raise PolicyError(f"policy: expected random, a model's MODEL.zip, or MODULE:FUNCTION, got {text!r}")
    try:
        found: Any = _imported(place)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise PolicyError(f"policy: the module {place!r} cannot be imported: {error}") from error
    except AttributeError as error:
        raise PolicyError(f"policy: {place!r} has no {name!r}: {error}") from error
    if inspect.isfunction(found) and len(inspect.signature(found).parameters) == 1:
        return lambda observations, states, episode_starts: (found(observations), states)
    return found


def _imported(place: str) -> Any:
    if not place.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(place)
    path, name = Path(place).expanduser(), module_of_file(place)
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PolicyError(f"policy: expected a Python file, got no file {place!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_of_file(place: str) -> str:
    """The name of the module that a Python file is loaded as. No library has it, whatever the name of the file."""
    path = Path(place).expanduser().resolve()
    return f"{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}".replace(".", "_")
