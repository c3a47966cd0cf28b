"""The recorder that goes around an environment, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecrollout.recording.environments import SINGLE, VEC_ENV, checked_kind
from vecrollout.recording.recorder import Recorder
from vecrollout.recording.sb3 import BufferingWrapper
from vecrollout.recording.single import BufferingEnvWrapper
from vecrollout.recording.vector import VectorBufferingWrapper


def recorder_around(env: Any, options: Mapping[str, Any], vector_options: Mapping[str, Any]) -> Recorder:
    """A recorder around an environment; options that are None, for vector environments, have their defaults."""
    given = {name: option for name, option in vector_options.items() if option is not None}
    kind = checked_kind("venv", env, given)
    if kind == SINGLE:
        return BufferingEnvWrapper(env, **options)
    return (BufferingWrapper if kind == VEC_ENV else VectorBufferingWrapper)(env, **options, **given)
