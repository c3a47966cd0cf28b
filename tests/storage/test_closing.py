"""How writers end with their process: at its exit, and by SIGTERM; processes are real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vecrollout import TraceWriter, Trajectory, open_traces, verify_traces

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are ended by signals on POSIX")

# A process that records an environment, whose episodes end after 40 steps, and says when it is ready.
PRELUDE = """
import multiprocessing, os, signal, sys, threading, time
import gymnasium as gym
import numpy as np
from vecrollout import BufferingEnvWrapper, TraceWriter

directory = sys.argv[1]


class Counting(gym.Env):
    observation_space = gym.spaces.Box(0, 40, (), np.int64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.int64(0), {}

    def step(self, action):
        self.t += 1
        return np.int64(self.t), 1.0, self.t == 40, False, {"t": self.t}


def recorder(writer=None, **options):
    env = BufferingEnvWrapper(Counting(), False, sink=writer or TraceWriter(directory, **options))
    env.reset()
    return env


def steps(env, count):
    for _ in range(count):
        *_, is_over, _, _ = env.step(0)
        if is_over:
            env.reset()


def ready():
    print("ready", flush=True)
"""


@contextmanager
def process(code: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join(filter(None, sys.path))
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def terminated(code: str, directory: Path, after_s: float = 0.0) -> tuple[int, str]:
    """What became of a process that got SIGTERM: its exit status, and what it said on stderr."""
    with process(code, directory) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
        time.sleep(after_s)
        child.terminate()
        _, stderr = child.communicate(timeout=120)
        return child.returncode, stderr


def ended(code: str, directory: Path) -> tuple[int, str]:
    """What became of a process that ended by itself."""
    with process(code, directory) as child:
        _, stderr = child.communicate(timeout=120)
        return child.returncode, stderr


def assert_all_there(directory: Path, total: int | None = None) -> None:
    """All episodes in a row, each from its first step to its last; what ran when the process ended, too."""
    assert verify_traces(directory).ok
    traces = list(open_traces(directory))
    assert [each.episode.id for each in traces] == list(range(len(traces)))
    for each in traces:
        np.testing.assert_array_equal(each.obs, np.arange(len(each) + 1))
        assert each.infos is not None
        assert [info["t"] for info in each.infos] == list(range(1, len(each) + 1))
    assert all((len(each), each.episode.ended_by) == (40, "terminated") for each in traces[:-1])
    last = traces[-1]
    assert last.episode.ended_by == ("terminated" if len(last) == 40 else "closed")
    assert total is None or sum(map(len, traces)) == total


def test_by_sigterm_while_idle(tmp_path: Path) -> None:
    code = "env = recorder(); steps(env, 100); ready(); time.sleep(60)"
    assert terminated(code, tmp_path) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path, 100)


@pytest.mark.parametrize(
    "after_s", [0.0, 0.1, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.01, 0.05, 0.2, 0.3))]
)
def test_by_sigterm_while_stepping(after_s: float, tmp_path: Path) -> None:
    """Wherever the signal comes: in the middle of recording a step, of handing over, of the environments' own step."""
    code = "env = recorder(max_shard_bytes=4096); steps(env, 1); ready(); steps(env, 10**9)"
    assert terminated(code, tmp_path, after_s) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path)


def test_by_sigterm_while_append_waits(tmp_path: Path) -> None:
    """The queue is full, and the disk slow: what waits is written, too."""
    code = """
from vecrollout.storage.encoder import TraceEncoder
write = TraceEncoder.write


def slow(self):
    time.sleep(0.2)
    return write(self)


TraceEncoder.write = slow
env = recorder(queue_bytes=1)
steps(env, 41)
threading.Timer(0.3, ready).start()
steps(env, 10**9)
"""
    assert terminated(code, tmp_path) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path)


def test_by_sigterm_while_it_flushes_all_the_time(tmp_path: Path) -> None:
    code = """
writer = TraceWriter(directory)
env = recorder(writer)
steps(env, 100)
ready()
while True:
    writer.flush()
"""
    assert terminated(code, tmp_path, 0.1) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path, 100)


def test_by_several_signals(tmp_path: Path) -> None:
    code = """
from vecrollout.storage.encoder import TraceEncoder
finish = TraceEncoder.finish
TraceEncoder.finish = lambda self: (time.sleep(0.5), finish(self))
env = recorder()
steps(env, 100)
ready()
time.sleep(60)
"""
    with process(code, tmp_path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(5):
            child.terminate()
            time.sleep(0.05)
        assert child.communicate(timeout=120)[1] == ""
        assert child.returncode == -signal.SIGTERM
    assert_all_there(tmp_path, 100)


def test_by_sigterm_while_the_interpreter_exits(tmp_path: Path) -> None:
    """It closes what there is to close, and ends by the signal."""
    code = """
from vecrollout.storage.encoder import TraceEncoder
finish = TraceEncoder.finish
TraceEncoder.finish = lambda self: (ready(), time.sleep(0.5), finish(self))
env = recorder()
steps(env, 100)
other = TraceWriter(directory)
"""
    assert terminated(code, tmp_path, 0.1) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path, 100)


def test_by_sigterm_while_another_thread_records(tmp_path: Path) -> None:
    code = """
env = recorder()
threading.Thread(target=steps, args=(env, 10**9), daemon=True).start()
time.sleep(0.1)
ready()
time.sleep(60)
"""
    assert terminated(code, tmp_path, 0.1)[0] == -signal.SIGTERM
    assert verify_traces(tmp_path).ok
    assert len(open_traces(tmp_path)) > 0


@pytest.mark.parametrize("fork", ["os.fork()", "multiprocessing"])
def test_by_sigterm_in_a_forked_process(fork: str, tmp_path: Path) -> None:
    """It ends as it would without us, and leaves the parent's writer alone, which goes on."""
    code = f"""
env = recorder()
steps(env, 100)
if {fork == "os.fork()"}:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(1)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
else:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    time.sleep(0.1)
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM
steps(env, 100)
ready()
time.sleep(60)
"""
    assert terminated(code, tmp_path) == (-signal.SIGTERM, "")
    assert_all_there(tmp_path, 200)


def test_exit_of_a_forked_process(tmp_path: Path) -> None:
    code = """
env = recorder()
steps(env, 100)
child = os.fork()
if child == 0:
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
steps(env, 100)
"""
    assert ended(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 200)


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise OSError('of the test')", 1), ("os.kill(os.getpid(), signal.SIGINT)", -2)],
)
def test_exit_without_close(end: str, status: int, tmp_path: Path) -> None:
    code = f"def main():\n    env = recorder()\n    steps(env, 100)\n    {end}\nmain()"
    assert ended(code, tmp_path)[0] == status
    assert_all_there(tmp_path, 100)


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
@pytest.mark.parametrize("end", ["return", "terminate"])
def test_processes_of_multiprocessing(method: str, end: str, tmp_path: Path) -> None:
    """They end without what `atexit` has registered."""
    module = tmp_path / "recording_child.py"
    module.write_text(
        f"""{PRELUDE}

def record(is_terminated):
    writer = TraceWriter(directory)
    env = recorder(writer)
    steps(env, 100)
    if is_terminated:
        writer.flush()
        time.sleep(60)
"""
    )
    traces = tmp_path / "traces"
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
import recording_child
if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=recording_child.record, args=({end == "terminate"},))
    child.start()
    if {end == "terminate"}:
        while not list(__import__("pathlib").Path(directory).glob("*.json")) and child.is_alive():
            time.sleep(0.1)
        child.terminate()
    child.join()
    assert child.exitcode == {-int(signal.SIGTERM) if end == "terminate" else 0}, child.exitcode
"""
    assert ended(code, traces) == (0, "")
    assert_all_there(traces, 100)


def test_a_handler_that_was_there_is_left_alone(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
env = recorder()
steps(env, 100)
ready()
time.sleep(60)
"""
    assert terminated(code, tmp_path) == (7, "")
    assert_all_there(tmp_path, 100)


def test_a_handler_that_comes_later_takes_over(tmp_path: Path) -> None:
    code = """
env = recorder()
before = signal.signal(signal.SIGTERM, lambda *received: (print("mine", file=sys.stderr), before(*received)))
steps(env, 100)
ready()
time.sleep(60)
"""
    assert terminated(code, tmp_path) == (-signal.SIGTERM, "mine\n")
    assert_all_there(tmp_path, 100)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
env = recorder()
steps(env, 100)
ready()
time.sleep(1)
"""
    assert terminated(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 100)


def test_a_writer_of_another_thread(tmp_path: Path) -> None:
    """No handler can be set from there; its writer closes at exit."""
    code = """
def record():
    steps(recorder(), 100)


thread = threading.Thread(target=record)
thread.start()
thread.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    assert ended(code, tmp_path) == (0, "")
    assert_all_there(tmp_path, 100)


def test_the_handler_is_there_while_a_writer_is_open(tmp_path: Path) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    writers = [TraceWriter(tmp_path) for _ in range(2)]
    writers[0].close()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    writers[1].close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_before_close(tmp_path: Path) -> None:
    """All are called, also where one of them raises, and can still append; then the writer closes."""
    trajectory = Trajectory(np.zeros(3), np.zeros(2), None, True)
    writer = TraceWriter(tmp_path)
    calls: list[str] = []

    def fails() -> None:
        calls.append("fails")
        raise LookupError("of the test")

    def append(name: str) -> None:
        calls.append(name)
        writer.append(trajectory)

    writer.before_close(lambda: append("first"))
    writer.before_close(fails)
    forget = writer.before_close(lambda: append("forgotten"))
    writer.before_close(lambda: append("last"))
    forget()
    with pytest.raises(LookupError):
        writer.close()
    assert calls == ["first", "fails", "last"]
    writer.close()
    assert calls == ["first", "fails", "last"]
    assert len(open_traces(tmp_path)) == 2


def test_an_interrupted_close_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TraceWriter(tmp_path)
    writer.append(Trajectory(np.zeros(3), np.zeros(2), None, True))

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    writer.close()
    assert verify_traces(tmp_path).ok
    assert len(open_traces(tmp_path)) == 1
