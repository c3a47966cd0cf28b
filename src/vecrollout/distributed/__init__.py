"""Collecting on many machines with Ray.

Install the extra `ray`.
"""

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
