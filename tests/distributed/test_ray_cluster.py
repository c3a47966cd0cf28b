"""What a collection asks of a cluster: shared storage, a token, loopback only, patience."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drivers
import pytest
from ticking import Slow, Ticking, check_all

import processes
from vecrollout import open_traces
from vecrollout.distributed import Collector
from vecrollout.errors import WorkerError

if TYPE_CHECKING:
    from s3_server import S3Server

# Of a driver: the right number of steps, or the error.
COLLECTING = """
import sys
import ray
from vecrollout.distributed import collect
from vecrollout.errors import OptionError, WorkerError
from ticking import Ticking

try:
    print(collect(Ticking, None, sys.argv[1], steps=30, num_workers=1).total_steps)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
except (OptionError, WorkerError) as error:
    print(type(error).__name__, " ".join(str(error).split()))
"""


def unsharing() -> list[str] | None:
    """A command that runs another one among mounts of its own; None where that is not allowed."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        with contextlib.suppress(OSError):
            tried = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
            if tried.returncode == 0:
                return command
    return None


def test_a_directory_that_workers_do_not_share(cluster: Any, tmp_path: Path) -> None:
    """The driver has another disk at the place of the directory, as on another machine."""
    unshare = unsharing()
    if unshare is None:
        pytest.skip("a process with mounts of its own needs unshare and the right to mount")
    disk = tmp_path / "local disk"
    disk.mkdir()
    mounting = [*unshare, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(disk)]
    programs = {
        place: drivers.start(["-c", COLLECTING, place], tmp_path, drivers.environment(cluster), through=mounting)
        for place in (disk / "traces", tmp_path / "traces")
    }
    outcomes = {place: program.communicate("", timeout=drivers.LIMIT_S) for place, program in programs.items()}
    refused, err = outcomes[disk / "traces"]
    expected = f"OptionError worker 0: directory: expected one that all workers share, got '{disk}/traces', which is"
    assert refused.startswith(expected), err
    assert "use a directory on a network file system, or the URL of an object store" in refused
    assert not (disk / "traces").exists()
    assert outcomes[tmp_path / "traces"][0].startswith("30\n")
    assert open_traces(tmp_path / "traces").total_steps == 30
    assert not [each.name for each in (tmp_path / "traces").iterdir() if "probe" in each.name]


def test_an_object_store(cluster: Any, store: S3Server) -> None:
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    options = {"runtime_env": {"env_vars": variables}}
    with Collector(Ticking, store.url, num_workers=2, num_envs=2, seed=3, ray_options=options) as collector:
        first = collector.collect(None, steps=100)
        second = collector.collect(None, episodes=8)
        assert (first.total_steps, len(second) >= 8) == (100, True)
        check_all(first)
        check_all(second)
    check_all(open_traces(store.url))
    assert open_traces(store.url).total_steps == collector.written().total_steps


def listening(pids: set[int]) -> set[str]:
    """Local addresses at which processes listen, in hexadecimal digits as Linux shows them."""
    sockets = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(file)))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


PUBLISHING = """
import os, sys
import numpy as np
import ray
from ticking import Numbered, Ticking
from vecrollout.distributed import PolicyHandle, collect

handle = PolicyHandle(Numbered.build, Numbered.set_number)
weights = np.array(4)
handle.publish(weights)
weights[...] = 5
assert not ray.is_initialized()
data = collect(Ticking, handle, sys.argv[1], steps=60, num_workers=os.cpu_count() + 1)
print(data.total_steps, {int(act) for each in data for act in each.acts}, handle.version)
"""


@pytest.mark.slow  # starts Ray
def test_weights_are_published_before_ray_starts(tmp_path: Path) -> None:
    """It then starts with enough processors for the workers."""
    variables = drivers.environment(None, HOME=str(tmp_path))
    process = drivers.start(["-c", PUBLISHING, tmp_path / "traces"], tmp_path, variables)
    out, err = process.communicate(timeout=drivers.LIMIT_S)
    assert (out, err) == ("60 {4} 0\n", "")


@pytest.mark.skipif(not processes.IS_LINUX, reason="reads /proc")
def test_nothing_listens_beyond_this_machine(cluster: Any, tmp_path: Path) -> None:
    with Collector(Ticking, tmp_path, num_workers=1) as collector:
        collector.collect(None, steps=10)
        addresses = listening({os.getpid(), *processes.running()})
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert addresses
    assert addresses <= loopback


@pytest.mark.slow  # three programs, one of which starts Ray
def test_only_those_who_know_the_token_use_a_cluster(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    mine = drivers.environment(None, **token, RAY_AUTH_TOKEN="a" * 64)
    owner = drivers.start(["-c", COLLECTING, tmp_path / "first"], tmp_path, mine)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "30\n", owner.communicate()
        address = {"RAY_ADDRESS": owner.stdout.readline().strip()}
        friend = drivers.start(["-c", COLLECTING, tmp_path / "second"], tmp_path, {**mine, **address})
        stranger = drivers.start(
            ["-c", COLLECTING, tmp_path / "third"], tmp_path, {**mine, **address, "RAY_AUTH_TOKEN": "b" * 64}
        )
        assert friend.communicate("", timeout=drivers.LIMIT_S)[0].splitlines()[0] == "30"
        out, err = stranger.communicate("", timeout=drivers.LIMIT_S)
        assert out.startswith("WorkerError expected a Ray cluster, got "), (out, err)
    finally:
        owner.communicate("", timeout=drivers.LIMIT_S)
    assert open_traces(tmp_path / "second").total_steps == 30
    assert not (tmp_path / "third").exists() or list((tmp_path / "third").iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
def test_no_cluster_at_the_address(address: str, tmp_path: Path) -> None:
    variables = drivers.environment(None, RAY_ADDRESS=address)
    process = drivers.start(["-c", COLLECTING, tmp_path / "traces"], tmp_path, variables)
    out, err = process.communicate("", timeout=drivers.LIMIT_S)
    assert out.startswith(
        f"WorkerError expected a Ray cluster at RAY_ADDRESS={address}, got [Errno {errno.ECONNREFUSED}]"
    ), (out, err)


def test_a_worker_that_starts_slowly(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="1 of 1 workers did not start in start_timeout_s=1"):
        Collector(Slow, tmp_path, num_workers=1, start_timeout_s=1)
    with Collector(Slow, tmp_path, num_workers=1) as collector:
        assert collector.collect(None, steps=10).total_steps == 10


RAISING = """
import sys
from vecrollout.distributed import collect
from ticking import Ticking

def act(observations, states, starts):
    raise ValueError("the policy " + "broke")

collect(Ticking, act, sys.argv[1], steps=100, num_workers=2)
"""


def test_an_error_of_all_workers_is_shown_once(cluster: Any, tmp_path: Path) -> None:
    process = drivers.start(["-c", RAISING, tmp_path / "traces"], tmp_path, drivers.environment(cluster))
    out, err = process.communicate("", timeout=drivers.LIMIT_S)
    assert process.returncode == 1
    # Once as the cause, and once as an error of vecrollout.
    assert len(re.findall(r"^\S*ValueError.*: the policy broke", err, re.MULTILINE)) == 1, err
    own = r"^vecrollout\.errors\.WorkerError: worker [01]: ValueError: the policy broke$"
    assert len(re.findall(own, err, re.MULTILINE)) == 1, err
    assert err.count("the policy broke") <= 3
    assert out == ""
