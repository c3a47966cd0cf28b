"""Passes every recorded episode to a callback."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from vecrollout.data.checks import check_function, whole_number
from vecrollout.data.trees import concatenate, unwrap
from vecrollout.storage.dataset import TraceDataset, open_traces


def scan_recorded_traces(
    directory: str | os.PathLike[str],
    episode_cb: Callable[[Any, Any, Any], object],
    max_episodes: int | None = None,
) -> None:
    """Call a function with the arrays of each episode in a directory of traces, in order.

    Args:
        directory: The directory, or the URL of an object store.
        episode_cb: Called with observations (N + 1 rows; dicts and tuples of arrays for spaces of such), actions
            (N rows) and rewards (N rows, float; None if the trace has none). If steps were left out of the episode,
            `observations` has N rows, too: those before the actions. Fragments of an episode are joined.
        max_episodes: Number of episodes after which to stop; None: read all.

    Raises:
        DamagedTraceError: If a trace cannot be read, or is not what was written.
        TraceVersionError: If a newer version of the package wrote it.
        OptionError: If `max_episodes` is negative, or the URL cannot be used.
        ArgumentTypeError: If `directory` is neither a path nor a URL, `episode_cb` no function, or `max_episodes` no
            integer.
        MissingDependencyError: If pyarrow, xxhash or a package that the URL needs is not installed.
        StoreError: If an object store fails.

    Source:
        `gym_recording.playback.scan_recorded_traces` (OpenAI, gym-recording), whose callback gets the same.
    """
    check_function("episode_cb", episode_cb, "observations, actions and rewards")
    if max_episodes is not None:
        max_episodes = whole_number("max_episodes", max_episodes, 0)
    traces = open_traces(directory)
    for fragments in traces.episodes()[:max_episodes]:
        episode_cb(*episode_arrays(traces, fragments))


def episode_arrays(traces: TraceDataset, fragments: range) -> tuple[Any, Any, Any]:
    """Observations, actions and rewards of an episode, one of `traces.episodes()`, as the callback gets them."""
    fields = [traces.columns(number, ("obs", "acts", "rews")) for number in fragments]
    obs = [each["obs"] for each in fields]
    if _misses_steps(traces, fragments, [len(each["acts"]) for each in fields]):
        obs = [each[:-1] for each in obs]
    else:
        obs[:-1] = [each[:-1] for each in obs[:-1]]
    return _joined(obs), _joined([each["acts"] for each in fields]), _joined([each["rews"] for each in fields])


def _joined(parts: list[Any]) -> Any:
    return unwrap(parts[0] if len(parts) == 1 or parts[0] is None else concatenate(parts))


def _misses_steps(traces: TraceDataset, fragments: range, steps: list[int]) -> bool:
    """Whether steps were left out of an episode, of which these are the fragments and their numbers of steps."""
    identities = [traces.identity(number) for number in fragments]
    follows = [
        left.start_step + length == right.start_step
        for (left, right), length in zip(pairwise(identities), steps[:-1], strict=True)
    ]
    if not all(follows):
        return True
    is_whole = identities[0].start_step == 0 and identities[-1].ended_by is not None
    return not is_whole and bool(traces.about(fragments[0])["metadata"].get("steps_filtered"))
