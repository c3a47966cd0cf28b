"""A real cluster of two nodes, which listens on this machine only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ticking import NODE, Ticking

from vecrollout import record_traces

if find_spec("ray") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    # Before Ray is imported: its servers then listen on 127.0.0.1, and reports stay here.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Workers import the environments of the tests.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A directory with five steps that must not be lost."""
    with record_traces(Ticking(), tmp_path / "kept") as env:
        env.reset(seed=1)
        for _ in range(5):
            env.step(0)
    return tmp_path / "kept"
