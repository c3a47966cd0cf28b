"""Checks of a writer's options, before anything is made or removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from vecrollout.data.checks import check_function, positive_number, whole_number
from vecrollout.errors import ArgumentTypeError, OptionError

_MIN_SHARD_BYTES = 1 << 12


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The given options of a `TraceWriter`, checked and converted."""
    return {name: _CHECKS[name](value) if name in _CHECKS else value for name, value in options.items()}


def checked_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user says about a trace or a trajectory."""
    if not isinstance(metadata, Mapping):
        raise ArgumentTypeError(f"metadata: expected a dict, got {type(metadata).__name__}")
    return metadata


def _compression(value: Any) -> Any:
    if value not in ("zstd", "lz4", None):
        raise OptionError(f"compression: expected 'zstd', 'lz4' or None, got {value!r}")
    return value


def _spaces(value: Any) -> Any:
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    if value is not None and not (is_pair and all(isinstance(space, gymnasium.Space) for space in value)):
        raise ArgumentTypeError(f"spaces: expected the observation space and the action space, got {value!r}")
    return value


def _episode_metadata(value: Any) -> Any:
    if value is not None:
        check_function("episode_metadata", value, "a trajectory")
    return value


def _env_spec(value: Any) -> Any:
    if not isinstance(value, str | None):
        raise ArgumentTypeError(f"env_spec: expected text, got {type(value).__name__}")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "compression": _compression,
    "max_shard_bytes": lambda value: whole_number("max_shard_bytes", value, _MIN_SHARD_BYTES),
    "queue_bytes": lambda value: whole_number("queue_bytes", value, 1),
    "flush_every_s": lambda value: None if value is None else positive_number("flush_every_s", value),
    "spaces": _spaces,
    "episode_metadata": _episode_metadata,
    "env_spec": _env_spec,
    "metadata": lambda value: checked_metadata(value or {}),
}
