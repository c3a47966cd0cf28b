"""What recorders that write traces have in common: the writer, what it says about the environment, bounded memory."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gymnasium as gym

from vecrollout.errors import ArgumentTypeError, ProtocolError
from vecrollout.storage.writing.writer import TraceWriter, checked_metadata

# What running episodes may take up before they are handed over in fragments.
_HELD_BYTES = 1 << 30
# A guess at the infos of a step, and at a value whose size its space does not say.
_UNKNOWN_BYTES = 500


class TraceSink(Protocol):
    """A sink that writes, and has to be closed."""

    def append(self, trajectory: Any, /) -> object:
        """Take one trajectory."""

    def close(self) -> object:
        """Write everything, and stop. A second call does nothing."""


def trace_writer(
    directory: str | os.PathLike[str], env: Any, spaces: tuple[gym.Space[Any], gym.Space[Any]], **options: Any
) -> TraceWriter:
    """A writer that knows the environment.

    Args:
        directory: Where to: a directory or a URL.
        env: The environment, of any kind.
        spaces: Observation and action space of a single environment.
        **options: Of `TraceWriter`; they go before what the environment says.

    Raises:
        ArgumentTypeError: If one is no option of `TraceWriter`.
        ProtocolError: If the environment is recorded to this directory already.
    """
    check_options(options)
    if any(str(recorded) == str(directory) for recorded in _recorded_to(env)):
        raise ProtocolError(
            f"env: expected one that is not recorded to {directory} yet, got one that is; step that one, or record the "
            "environment inside it"
        )
    given = {"spaces": spaces, **options}
    if "env_spec" not in given:
        given["env_spec"] = spec_of(env)
    return TraceWriter(directory, **given)


def check_options(options: Mapping[str, Any], writer: Callable[..., object] = TraceWriter) -> None:
    """Refuse what is no option of a writer.

    Raises:
        ArgumentTypeError: If one is none.
    """
    known = [name for name, each in inspect.signature(writer).parameters.items() if each.kind is each.KEYWORD_ONLY]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ArgumentTypeError(f"expected options among {', '.join(known)}, got {', '.join(unknown)}")


def filtered(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a writer that gets only some of an episode's steps, and says so to whoever plays it back."""
    return {**options, "metadata": {"steps_filtered": True, **checked_metadata(options.get("metadata") or {})}}


def _recorded_to(env: Any) -> Iterator[object]:
    """Where the recorders write to that are around an environment already."""
    while env is not None:
        its_own = getattr(env, "__dict__", {})  # a wrapper may pass others' attributes on
        writer = its_own.get("_writer")
        if isinstance(writer, TraceWriter):
            yield writer.directory
        env = its_own.get("env", its_own.get("venv"))


def spec_of(env: Any) -> str | None:
    """The environment's `EnvSpec` as JSON; its id where it is not to be had as JSON, and None where there is none.

    Args:
        env: A single environment, or a vector environment of any kind, of which the first one tells.
    """
    try:
        spec = env.get_attr("spec")[0] if getattr(env, "spec", None) is None else env.spec
    except Exception:
        # Whatever a vector environment raises that cannot tell.
        return None
    try:
        return str(spec.to_json())
    except Exception:
        # A spec may hold functions and arrays, and be of another library.
        name = getattr(spec, "id", None)
        return None if name is None else str(name)


def most_transitions(spaces: tuple[gym.Space[Any], gym.Space[Any]], num_envs: int) -> int:
    """How many transitions of such spaces a recorder may hold, at least one of each environment."""
    return max(num_envs, _HELD_BYTES // (sum(map(_item_bytes, spaces)) + _UNKNOWN_BYTES))


def _item_bytes(space: gym.Space[Any]) -> int:
    if isinstance(space, gym.spaces.Dict):
        return sum(map(_item_bytes, space.spaces.values()))
    if isinstance(space, gym.spaces.Tuple):
        return sum(map(_item_bytes, space.spaces))
    if space.shape is None or space.dtype is None:
        return _UNKNOWN_BYTES
    return math.prod(space.shape) * space.dtype.itemsize
