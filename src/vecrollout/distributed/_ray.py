"""Ray, where it is installed."""

from __future__ import annotations

import os

from vecrollout.errors import MissingDependencyError, WorkerError

try:
    import ray
except ImportError as error:
    raise MissingDependencyError(
        f"vecrollout.distributed needs ray ({error}): pip install 'vecrollout[ray]'"
    ) from error

__all__ = ["ray", "start"]

_TRIES = 3


def start(num_workers: int) -> None:
    """Start Ray on this machine, or connect to the cluster that RAY_ADDRESS names, unless it is connected already."""
    if ray.is_initialized():
        return
    is_local = "RAY_ADDRESS" not in os.environ
    cpus = max(num_workers, os.cpu_count() or 1)
    options = {"address": "local", "num_cpus": cpus, "include_dashboard": False} if is_local else {}
    for tried in range(1, _TRIES + 1):
        try:
            ray.init(**options, log_to_driver=False)
            return
        except Exception as error:  # Ray raises a bare Exception where its servers are slow
            ray.shutdown()
            if tried == _TRIES or not is_local:
                raise WorkerError(f"expected a Ray cluster, got {type(error).__name__}: {error}") from error
