"""A collection of one round."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from vecrollout.buffer.options import check_options
from vecrollout.collecting.policy import AnyPolicy
from vecrollout.distributed.collector import Collector
from vecrollout.distributed.policies import PolicyHandle, check_sendable
from vecrollout.distributed.round import Enough, Until
from vecrollout.recording.environments import AnyEnv
from vecrollout.storage.dataset import TraceDataset
from vecrollout.storage.writing.writer import TraceWriter


def collect(
    env_fn: Callable[[], AnyEnv] | str,
    policy: AnyPolicy | PolicyHandle,
    directory: str | os.PathLike[str],
    *,
    steps: int | None = None,
    episodes: int | None = None,
    until: Until | None = None,
    **options: Any,
) -> TraceDataset:
    """Collect with many workers, once.

    Args:
        env_fn: Makes environments; see `Collector`.
        policy: The policy; see `Collector.collect`.
        directory: Where to write; see `Collector`.
        steps: Exact number of transitions; see `Collector.collect`. Episodes that still run have `ended_by`
            `"closed"`.
        episodes: The least number of episodes.
        until: Says whether there is enough.
        **options: Options of `Collector`.

    Returns:
        The data that was collected.

    Raises:
        OptionError: If none or more than one condition is given, or an option has another value than described.
        ArgumentTypeError: If an option does not exist.
        PolicyError: If the policy or `env_fn` cannot be pickled.
        WorkerError: If an environment or the policy raises, or a worker died too often.
    """
    check_options(options, collect, Collector, TraceWriter)
    # What is wrong with these is found before workers start, and before old traces are removed.
    Enough(steps, episodes, until)
    check_sendable(policy, options.get("deterministic_policy", False))
    with Collector(env_fn, directory, **options) as collector:
        return collector.collect(policy, steps=steps, episodes=episodes, until=until, close=True)
