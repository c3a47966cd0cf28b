"""Ray, where it is installed."""

from __future__ import annotations

from vecrollout.errors import MissingDependencyError

try:
    import ray
except ImportError as error:
    raise MissingDependencyError(
        f"vecrollout.distributed needs ray ({error}): pip install 'vecrollout[ray]'"
    ) from error

__all__ = ["ray"]
