"""Identities that can be written."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, get_args

from vecrollout.data.trajectory import EndedBy
from vecrollout.errors import ArgumentTypeError, OptionError

# A dict, of which an ending that is no text at all is no key.
_ENDINGS = dict.fromkeys((None, *get_args(EndedBy)))
_INT32, _INT64 = 1 << 31, 1 << 63

# Python itself writes no number that is much longer.
_SEED = 1 << 4096


def check_episode(episode: Any, steps: int) -> None:
    """Refuse an identity that cannot be written."""
    try:
        number, env_index, seed, info = episode.id, episode.env_index, episode.seed, episode.reset_info
        fits = (
            (number is None or -_INT64 <= index(number) < _INT64)
            and (env_index is None or -_INT32 <= index(env_index) < _INT32)
            and 0 <= index(episode.start_step) < _INT64 - steps
            and (seed is None or -_SEED < index(seed) < _SEED)
        )
        is_ending = episode.ended_by in _ENDINGS
    except (TypeError, AttributeError) as error:
        raise ArgumentTypeError(f"episode: expected an Episode of integers and text, got another: {error}") from error
    if not (info is None or type(info) is dict or isinstance(info, Mapping)):
        raise ArgumentTypeError(f"episode.reset_info: expected a dict or None, got {type(info).__name__}")
    if not (episode.recording is None or isinstance(episode.recording, str)):
        raise ArgumentTypeError(f"episode.recording: expected text or None, got {type(episode.recording).__name__}")
    if not is_ending:
        raise OptionError(f"episode.ended_by: expected one of {tuple(_ENDINGS)}, got {episode.ended_by!r}")
    if not fits:
        raise OptionError(
            "episode: expected an id and steps of 64 bits, an env_index of 32 and a seed of 4096 at most, got "
            f"id {number}, env_index {env_index}, {steps} steps from {episode.start_step} on"
        )
