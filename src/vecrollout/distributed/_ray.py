"""Ray, where it is installed."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from vecrollout.errors import MissingDependencyError, WorkerError

try:
    import ray
except ImportError as error:
    raise MissingDependencyError(
        f"vecrollout.distributed needs ray ({error}): pip install 'vecrollout[ray]'"
    ) from error

__all__ = ["ray", "start"]

_TRIES = 3
_CONNECT_S = 10.0


def start(num_workers: int) -> None:
    """Start Ray on this machine, or connect to the cluster that RAY_ADDRESS names, unless it is connected already."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {}
    if address is None:
        cpus = max(num_workers, os.cpu_count() or 1)
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    else:
        _check_listens(address)
    for tried in range(1, _TRIES + 1):
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises a bare Exception where its servers are slow
            ray.shutdown()
            if tried == _TRIES or address is not None:
                raise WorkerError(f"expected a Ray cluster, got {type(error).__name__}: {error}") from error


def _check_listens(address: str) -> None:
    """Refuse an address where nobody listens: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():  # such as `auto`
        return
    try:
        # An address of IPv6 is in brackets.
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise WorkerError(f"expected a Ray cluster at RAY_ADDRESS={address}, got {error}") from error
