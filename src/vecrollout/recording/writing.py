"""The writer of a recorder that writes traces: its options, its facts about the environment, bounded memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import gymnasium as gym

from vecrollout.errors import ProtocolError
from vecrollout.exits import Closable
from vecrollout.recording.batching import leaf_spaces
from vecrollout.recording.environments import layers_of
from vecrollout.recording.recorder import Recorder
from vecrollout.storage.files.folder import folder_of, place_of
from vecrollout.storage.files.objects import shown
from vecrollout.storage.writing.opening import remove_traces
from vecrollout.storage.writing.options import checked_metadata
from vecrollout.storage.writing.writer import TraceWriter

_Closable = TypeVar("_Closable", bound=Closable)

# Memory of running episodes after which they are written in fragments.
_HELD_BYTES = 1 << 30
# A guess at the infos of a step, and at a value whose size its space does not say.
_UNKNOWN_BYTES = 500


@contextmanager
def closed_on_error(opened: _Closable) -> Iterator[_Closable]:
    """Close this if the body of the `with` statement fails."""
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


@contextmanager
def trace_writer(
    directory: str | os.PathLike[str],
    env: Any,
    spaces: tuple[gym.Space[Any], gym.Space[Any]],
    /,
    *,
    mix_spaces: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Iterator[TraceWriter]:
    """A writer that knows the environment; options of `TraceWriter` go before what the environment says.

    The body of the `with` statement makes the recorder. If it fails, the writer is closed and no traces are removed.
    """
    place = place_of(directory)
    writers = [layer.owned_writer for layer in layers_of(env) if isinstance(layer, Recorder)]
    if any(isinstance(each, TraceWriter) and each.directory == place for each in writers):
        raise ProtocolError(
            f"env: expected one that is not recorded to {shown(place)} yet, got one that is; step that one, or record "
            "the environment inside it"
        )
    given = {"spaces": spaces, **options}
    if "env_spec" not in given:
        given["env_spec"] = spec_of(env)
    with closed_on_error(TraceWriter(place, mix_spaces=mix_spaces or overwrite, **given)) as writer:
        yield writer
        if overwrite:
            remove_traces(folder_of(place))


def filtered(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a writer that gets only some of an episode's steps, with metadata that says so."""
    return {**options, "metadata": {"steps_filtered": True, **checked_metadata(options.get("metadata") or {})}}


def spec_of(env: Any) -> str | None:
    """The environment's `EnvSpec` as JSON, else its id, else None; of a vector environment, that of the first one."""
    try:
        spec = env.get_attr("spec")[0] if getattr(env, "spec", None) is None else env.spec
    except Exception:
        # A vector environment may raise anything here.
        return None
    try:
        return str(spec.to_json())
    except Exception:
        # A spec may hold functions and arrays, and be of another library.
        name = getattr(spec, "id", None)
        return None if name is None else str(name)


def most_transitions(spaces: tuple[gym.Space[Any], gym.Space[Any]], num_envs: int, frame_bytes: int = 0) -> int:
    """The number of transitions of such spaces that a recorder may hold, at least one of each environment."""
    item_bytes = sum(_leaf_bytes(leaf) for space in spaces for leaf in leaf_spaces(space))
    return max(num_envs, _HELD_BYTES // (item_bytes + _UNKNOWN_BYTES + frame_bytes))


def _leaf_bytes(space: gym.Space[Any]) -> int:
    if space.shape is None or space.dtype is None:
        return _UNKNOWN_BYTES
    return math.prod(space.shape) * space.dtype.itemsize
