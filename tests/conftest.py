"""Settings of the whole suite, and an object store for whatever needs one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import processes

if TYPE_CHECKING:
    from s3_server import S3Server

# Threads of torch that wait for one another on a busy machine take minutes for what one does in a second.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No time limit an example: a busy machine must not fail a test. The default is quick and the same in every run; `many`
# looks for new examples in every run, except where CI is set.
settings.register_profile("quick", settings.default, deadline=None, max_examples=20, derandomize=True)
settings.register_profile("many", settings.default, deadline=None, max_examples=60)
settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves scripts and plugins alone, which `--doctest-modules` would import to look for doctests."""
    return True if collection_path.suffix == ".py" and not collection_path.name.startswith("test_") else None


@pytest.fixture(scope="session", autouse=True)
def started() -> Iterator[dict[int, str]]:
    """Processes that tests started, each with the test's name. Fails the run if one of them outlives the tests."""
    processes.adopt_orphans()
    started: dict[int, str] = {}
    yield started
    left = {pid: f"{processes.command(pid)!r} of {started.get(pid)}" for pid in processes.left_behind()}
    for pid in left:
        processes.kill(pid)
    assert left == {}, "tests left processes behind"


@pytest.fixture(autouse=True)
def _note_processes(request: pytest.FixtureRequest, started: dict[int, str]) -> Iterator[None]:
    yield
    for pid in processes.running():
        started.setdefault(pid, request.node.nodeid)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A new bucket, which pyarrow finds by the environment, as child processes do."""
    environment = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3_server.new_bucket()
    s3_server.request("PUT")
    return s3_server
