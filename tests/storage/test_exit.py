"""How writers end with their process: at its exit, and by SIGTERM; processes are real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import processes
from vecrollout import TraceWriter, Trajectory, open_traces, verify_traces

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are ended by signals on POSIX")

BY_SIGTERM = 128 + signal.SIGTERM

# A process that writes episodes of 40 steps, and says when it is ready.
PRELUDE = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
from vecrollout import Episode, TraceWriter, TrajectoryWithRew

directory = sys.argv[1]


def write(writer, count, first=0):
    for number in range(first, first + count):
        episode = Episode(number, recording="a", ended_by="terminated")
        infos = [{"t": t + 1} for t in range(40)]
        writer.append(TrajectoryWithRew(np.arange(41), np.zeros(40), infos, True, rews=np.ones(40), episode=episode))


def slow_down(seconds):
    from vecrollout.storage.writing.shards import Shards

    close = Shards.close
    Shards.close = lambda self: (print("closing", flush=True), time.sleep(seconds), close(self))


def ready():
    print("ready", flush=True)


def idle():
    while True:
        time.sleep(0.1)  # Python looks at signals between naps; one that comes just before a nap waits for its end
"""


def process(code: str, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    # Python 3.12 warns where a process with a writer's thread forks.
    return processes.process(PRELUDE + code, directory, "-W", "ignore:This process:DeprecationWarning")


def terminated(code: str, directory: Path, after_s: float = 0.0) -> tuple[int, str]:
    with process(code, directory) as child:
        return processes.terminated(child, after_s)


def ended(code: str, directory: Path) -> tuple[int, str]:
    """What became of a process that ended by itself."""
    with process(code, directory) as child:
        _, stderr = child.communicate(timeout=120)
        return child.returncode, stderr


def assert_all_there(directory: Path, total: int | None = None) -> None:
    """All episodes, each once and whole."""
    assert verify_traces(directory).ok
    traces = open_traces(directory)
    assert [each.episode.id for each in traces] == list(range(len(traces)))
    for each in traces:
        np.testing.assert_array_equal(each.obs, np.arange(41))
        assert each.infos is not None
        assert [info["t"] for info in each.infos] == list(range(1, 41))
    assert total is None or len(traces) == total


def test_by_sigterm_while_idle(tmp_path: Path) -> None:
    code = "writer = TraceWriter(directory); write(writer, 3); ready(); idle()"
    assert terminated(code, tmp_path) == (BY_SIGTERM, "")
    assert_all_there(tmp_path, 3)


@pytest.mark.parametrize("queue_bytes", [1, 1 << 28])
@pytest.mark.parametrize("after_s", [0.0, 0.2, pytest.param(0.05, marks=pytest.mark.slow)])
def test_by_sigterm_while_writing(queue_bytes: int, after_s: float, tmp_path: Path) -> None:
    """Wherever the signal comes, also while `append` waits because the queue is full."""
    options = f"queue_bytes={queue_bytes}, max_shard_bytes=4096"
    code = f"writer = TraceWriter(directory, {options}); ready(); write(writer, 10**9)"
    assert terminated(code, tmp_path, after_s) == (BY_SIGTERM, "")
    assert_all_there(tmp_path)


def test_by_sigterm_while_it_flushes_all_the_time(tmp_path: Path) -> None:
    code = """
writer = TraceWriter(directory)
write(writer, 3)
ready()
while True:
    writer.flush()
"""
    assert terminated(code, tmp_path, 0.1) == (BY_SIGTERM, "")
    assert_all_there(tmp_path, 3)


def test_by_sigterm_while_another_thread_writes(tmp_path: Path) -> None:
    code = """
writer = TraceWriter(directory)
threading.Thread(target=write, args=(writer, 10**9), daemon=True).start()
time.sleep(0.1)
ready()
idle()
"""
    assert terminated(code, tmp_path, 0.1)[0] == BY_SIGTERM
    assert_all_there(tmp_path)


def test_by_sigterm_while_it_closes(tmp_path: Path) -> None:
    """The signal ends the call, and the exit finishes what is left to do."""
    code = "slow_down(0.5); writer = TraceWriter(directory); write(writer, 3); ready(); writer.close(); idle()"
    assert terminated(code, tmp_path, 0.2) == (BY_SIGTERM, "")
    assert_all_there(tmp_path, 3)


@pytest.mark.parametrize("fork", ["os.fork()", "multiprocessing"])
def test_by_sigterm_in_a_forked_process(fork: str, tmp_path: Path) -> None:
    """It leaves its parent's writer alone, which goes on."""
    code = f"""
writer = TraceWriter(directory)
write(writer, 3)
reading, writing = os.pipe()


def begin():
    os.write(writing, b".")  # Python forgets a signal that comes while it forks
    idle()


if {fork == "os.fork()"}:
    child = os.fork()
    if child == 0:
        begin()
        os._exit(1)
    os.read(reading, 1)
    os.kill(child, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
else:
    child = multiprocessing.get_context("fork").Process(target=begin)
    child.start()
    os.read(reading, 1)
    child.terminate()
    child.join()
    status = child.exitcode
assert status == {BY_SIGTERM}, status
write(writer, 3, 3)
ready()
idle()
"""
    assert terminated(code, tmp_path) == (BY_SIGTERM, "")
    assert_all_there(tmp_path, 6)


def test_exit_of_a_forked_process(tmp_path: Path) -> None:
    code = """
writer = TraceWriter(directory)
write(writer, 3)
child = os.fork()
if child == 0:
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
write(writer, 3, 3)
"""
    assert ended(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 6)


def test_a_writer_of_another_process_is_refused(tmp_path: Path) -> None:
    code = """
from vecrollout.errors import ProtocolError
writer = TraceWriter(directory)
write(writer, 3)
child = os.fork()
if child == 0:
    for call in (lambda: write(writer, 1), writer.flush):
        try:
            call()
        except ProtocolError as error:
            assert "process" in str(error)
        else:
            os._exit(1)
    writer.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert ended(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 3)


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise OSError('of the test')", 1), ("os.kill(os.getpid(), signal.SIGINT)", -2)],
)
def test_exit_without_close(end: str, status: int, tmp_path: Path) -> None:
    code = f"def main():\n    writer = TraceWriter(directory)\n    write(writer, 3)\n    {end}\nmain()"
    assert ended(code, tmp_path)[0] == status
    assert_all_there(tmp_path, 3)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ["return", "terminate"])
def test_processes_of_multiprocessing(method: str, end: str, tmp_path: Path) -> None:
    """They end without what `atexit` has registered."""
    module = tmp_path / "writing_child.py"
    module.write_text(
        f"""{PRELUDE}

def record(is_terminated):
    writer = TraceWriter(directory)
    write(writer, 3)
    if is_terminated:
        writer.flush()
        idle()
"""
    )
    traces = tmp_path / "traces"
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
import writing_child
if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=writing_child.record, args=({end == "terminate"},))
    child.start()
    if {end == "terminate"}:
        while not list(__import__("pathlib").Path(directory).glob("*.arrow")) and child.is_alive():
            time.sleep(0.1)
        child.terminate()
    child.join()
    assert child.exitcode == {BY_SIGTERM if end == "terminate" else 0}, child.exitcode
"""
    assert ended(code, traces) == (0, "")
    assert_all_there(traces, 3)


def test_a_handler_that_was_there_is_left_alone(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
writer = TraceWriter(directory)
write(writer, 3)
ready()
idle()
"""
    assert terminated(code, tmp_path) == (7, "")
    assert_all_there(tmp_path, 3)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
writer = TraceWriter(directory)
write(writer, 3)
ready()
time.sleep(1)
"""
    assert terminated(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 3)


def test_a_writer_of_another_thread(tmp_path: Path) -> None:
    """No handler can be set from there; its writer closes at exit."""
    code = """
thread = threading.Thread(target=lambda: write(TraceWriter(directory), 3))
thread.start()
thread.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    assert ended(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 3)


def test_an_interrupted_close_is_finished_by_the_next(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path)
    writer.append(Trajectory(np.zeros(3), np.zeros(2), None, True))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        try:
            writer.close()
        except KeyboardInterrupt:
            writer.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert verify_traces(tmp_path).ok
    assert len(open_traces(tmp_path)) == 1


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with TraceWriter(tmp_path) as writer:
        writer.append(Trajectory(np.zeros(3), np.zeros(2), None, True))
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
