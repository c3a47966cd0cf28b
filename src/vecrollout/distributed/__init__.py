"""Collecting on many machines with Ray.

Install the extra `ray`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecrollout.distributed.collector import Collector
    from vecrollout.distributed.data import TraceDatasink, TraceDatasource, from_ray, to_ray
    from vecrollout.distributed.once import collect
    from vecrollout.distributed.order import Progressed
    from vecrollout.distributed.policies import PolicyHandle

__all__ = [
    "Collector",
    "PolicyHandle",
    "Progressed",
    "TraceDatasink",
    "TraceDatasource",
    "collect",
    "from_ray",
    "to_ray",
]

importlib.import_module(f"{__name__}._ray")  # says how to install Ray, if it is missing

# Ray Data and pandas take a second, which workers need not spend.
_LATE = {
    "Collector": "collector",
    "PolicyHandle": "policies",
    "Progressed": "order",
    "TraceDatasink": "data",
    "TraceDatasource": "data",
    "collect": "once",
    "from_ray": "data",
    "to_ray": "data",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
