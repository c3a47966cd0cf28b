"""Every recorded episode handed to a callback."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from vecrollout.datasets.traces import open_traces
from vecrollout.errors import OptionError


def scan_recorded_traces(
    directory: str | os.PathLike[str],
    episode_cb: Callable[[Any, Any, Any], object],
    max_episodes: int | None = None,
) -> None:
    """Call a function with the arrays of each trajectory in a directory of traces, in order.

    Args:
        directory: The directory, or the URL of an object store.
        episode_cb: Called with observations (N + 1 rows; dicts and tuples of arrays for spaces of such), actions
            (N rows) and rewards (N rows, float; None where the trace has none).
        max_episodes: After how many to stop; None: none.

    Raises:
        DamagedTraceError: If a trace cannot be read, or is not what was written.
        TraceVersionError: If a newer version of the package wrote it.
        OptionError: If `max_episodes` is negative, or a URL is none that can be used.
        MissingDependencyError: If pyarrow or xxhash is not installed, or what a URL needs besides.
        StoreError: If an object store fails.

    Source:
        `gym_recording.playback.scan_recorded_traces` (OpenAI, gym-recording), whose callback gets the same.
    """
    if max_episodes is not None and max_episodes < 0:
        raise OptionError(f"max_episodes: expected 0 or more, or None, got {max_episodes}")
    traces = open_traces(directory)
    for number in range(len(traces) if max_episodes is None else min(max_episodes, len(traces))):
        fields = traces.columns(number, ("obs", "acts", "rews"))
        obs, acts = (each.unwrap() if hasattr(each, "unwrap") else each for each in (fields["obs"], fields["acts"]))
        episode_cb(obs, acts, fields["rews"])
