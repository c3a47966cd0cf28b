"""Collecting with many workers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar
from uuid import uuid4

import gymnasium as gym
import numpy as np

from vecrollout import exits
from vecrollout._typing import RecordInfos
from vecrollout.buffer.options import RecordOptions, check_options
from vecrollout.collecting.policy import AnyPolicy, check_policy
from vecrollout.data.checks import check_function, positive_number, whole_number
from vecrollout.distributed._ray import ray, start
from vecrollout.distributed.crew import Crew, worker_actor
from vecrollout.distributed.gathered import Gathered
from vecrollout.distributed.line import line
from vecrollout.distributed.order import Order, Policy, Progressed
from vecrollout.distributed.policies import PolicyHandle, packed, put
from vecrollout.distributed.round import Enough, Round, Until
from vecrollout.distributed.streaming import Streaming
from vecrollout.errors import ProtocolError
from vecrollout.progress import check_live_line
from vecrollout.recording.environments import AnyEnv
from vecrollout.storage.dataset import TraceDataset
from vecrollout.storage.files.folder import folder_of
from vecrollout.storage.files.objects import shown
from vecrollout.storage.files.usage import DiskUsage
from vecrollout.storage.writing.opening import remove_traces
from vecrollout.storage.writing.options import checked_options
from vecrollout.storage.writing.writer import TraceWriter

_Self = TypeVar("_Self", bound="Collector")


class Collector:
    """Workers on the machines of a Ray cluster that act, record, and write one data set.

    Each worker is a Ray actor with environments, a recorder and a `TraceWriter` of its own. All of them write to the
    same directory, and `open_traces` reads it as one data set, also while they write. Each trajectory has the metadata
    `policy_version`, `round`, `worker` and `incarnation`, which are columns of the episode table.

    A worker that dies is started again, with other seeds. What it had written stays, and is counted. Its running
    episodes are lost.

    If the program is not connected to Ray, a collector starts Ray on this machine. To use a cluster, set `RAY_ADDRESS`,
    or call `ray.init` before.

    Args:
        env_fn: Makes a single environment, a SB3 `VecEnv` or a Gymnasium `VectorEnv`, in the worker; or the id of a
            registered environment. Single environments are stepped together, without wasted steps.
        directory: Where to write: a directory that all machines share, or the URL of an object store.
        num_workers: Number of workers, 1 or more.
        num_envs: Number of environments of each worker; None: as many as `env_fn` makes.
        seed: Every environment of every worker gets a seed of its own: consecutive numbers, of which the first is drawn
            from this number. They depend on the indices of worker and environment and on the number of restarts of the
            worker, not on which worker is quicker. An integer of 0 or more; None: any seed.
        deterministic_policy: Whether an SB3 algorithm or policy takes its most likely action.
        record_infos: Infos to keep: `"all"`, `"none"`, or a list of keys.
        record_masks: Whether to record action masks.
        record_states: Whether to record the state of a recurrent policy.
        max_restarts: How often each worker is started again; None: any number.
        chunk_s: Seconds after which workers report and take up a new version of the policy.
        start_timeout_s: Seconds that workers may take to start. Ray itself may need a minute on a busy machine.
        ray_options: Options of the Ray actors, such as `{"num_cpus": 2, "resources": {"simulator": 1}}`. By default,
            a worker takes one CPU, and workers are spread over the machines.
        progress: Whether to show a line with workers, steps a second, episodes, mean return of the last 100 episodes,
            restarts and bytes on disk on a terminal. It needs rich.
        **writer_options: Options of `TraceWriter`. With `overwrite`, the traces that the directory holds are removed
            when all workers have made and reset their environments.

    Raises:
        OptionError: If an option has another value than described, or workers do not share the directory.
        ArgumentTypeError: If an option does not exist or is not of the kind described, or `env_fn` makes no
            environments.
        PolicyError: If `env_fn` or an option of `TraceWriter` cannot be pickled.
        ProtocolError: If another writer is at work in a directory that is to be overwritten.
        WorkerError: If an environment cannot be made or reset, Ray cannot be reached, or the cluster has too few CPUs.
        MissingDependencyError: If `progress` is True and rich is not installed.
        TraceWriteError: If the directory cannot be made, or nothing can be written there.
    """

    def __init__(
        self,
        env_fn: Callable[[], AnyEnv] | str,
        directory: str | os.PathLike[str],
        *,
        num_workers: int = 2,
        num_envs: int | None = None,
        seed: int | None = None,
        deterministic_policy: bool = False,
        record_infos: RecordInfos = "all",
        record_masks: bool = False,
        record_states: bool = False,
        max_restarts: int | None = 3,
        chunk_s: float = 0.5,
        start_timeout_s: float = 300.0,
        ray_options: Mapping[str, Any] | None = None,
        progress: bool = False,
        **writer_options: Any,
    ) -> None:
        check_options(writer_options, Collector, TraceWriter)
        num_workers = whole_number("num_workers", num_workers, 1)
        if num_envs is not None:
            num_envs = whole_number("num_envs", num_envs, 1)
        if seed is not None:
            seed = whole_number("seed", seed, 0)
        if max_restarts is not None:
            max_restarts = whole_number("max_restarts", max_restarts, 0)
        self._chunk_s = positive_number("chunk_s", chunk_s)
        start_timeout_s = positive_number("start_timeout_s", start_timeout_s)
        if isinstance(env_fn, str):
            env_fn = functools.partial(gym.make, env_fn)
        check_function("env_fn", env_fn, "nothing")
        if progress:
            check_live_line()
        self._acting: dict[str, Any] = {
            "deterministic_policy": deterministic_policy,
            "record_infos": RecordOptions(record_infos=record_infos).record_infos,
            "record_masks": record_masks,
            "record_states": record_states,
        }
        self._name = uuid4().hex
        writing = checked_options({"metadata": None, **writer_options})
        writing["metadata"] = {**writing["metadata"], "collection": self._name}
        actor = worker_actor(ray_options)
        overwrite = writing.pop("overwrite", False)
        if overwrite:
            writing["mix_spaces"] = True  # the traces that are there go when the workers have started
        folder = folder_of(directory)
        start(num_workers)
        worker_args = {
            "env_fn": put(env_fn, "env_fn"),
            "num_envs": num_envs,
            "writing": put(writing, ", ".join(writer_options) or "metadata"),
            "acting": self._acting,
        }
        folder.make()
        self.directory: Path | str = folder.path
        """Where the workers write."""
        entropy: Any = np.random.SeedSequence(seed).entropy
        self._crew = Crew(self.directory, num_workers, entropy, worker_args, actor, max_restarts, start_timeout_s)
        if overwrite:
            # Not before: environments that cannot be made or recorded must not cost the traces that are there.
            with self._crew.killed_on_error():
                remove_traces(folder)
        self._progress = progress
        self._gathered = Gathered(self.directory, self._name)
        self._rounds = 0
        self._versions = 0
        self._streaming: Streaming | None = None
        self._is_closed = False
        exits.close_at_exit(self)

    def collect(
        self,
        policy: AnyPolicy | PolicyHandle,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        until: Until | None = None,
        close: bool = False,
    ) -> TraceDataset:
        """Let all workers act until there is enough data: one round.

        Give one of `steps`, `episodes` and `until`. With `steps`, episodes go on from round to round, and the round has
        their fragments. With the others, the round consists of whole episodes: when there are enough, each environment
        finishes the one that it is in, so that short episodes are not preferred.

        Args:
            policy: An SB3 algorithm or policy, a function as `policy_to_callable` takes it, None for random actions, or
                a `PolicyHandle`. The round uses the policy as it is now. Each call makes a new version of it; a handle
                numbers its versions itself.
            steps: Exact number of transitions, of all workers together. Workers make equal parts. Where `num_envs` does
                not divide it, some fragments are cut one step short.
            episodes: The least number of episodes, of all workers together. Workers finish equal parts.
            until: Takes how far the round is, a `Progressed`, and says whether that is enough. How many episodes there
                are then depends on how quick the workers are.
            close: Whether this is the last round, after which the collector is closed. Episodes that still run in a
                round of `steps` then have `ended_by` `"closed"`.

        Returns:
            The data of this round, ordered by worker, environment and time. With the same seed, `steps` or `episodes`,
            and a policy that is the same, it is the same data, unless a worker was restarted.

        Raises:
            OptionError: If none or more than one condition is given, or a number is not positive.
            PolicyError: If the policy is of another kind, takes other arguments, or cannot be pickled.
            SpaceMismatchError: If an algorithm was made for other spaces.
            WorkerError: If an environment or the policy raises, or a worker died too often. The workers are ended. What
                they had written can be read.
            ProtocolError: If the collector is closed.
        """
        enough = Enough(steps, episodes, until)
        version = self._version(policy)
        order = Order(self._rounds, version, is_whole=steps is None, is_last=close, chunk_s=self._chunk_s)
        self._rounds += 1
        progressed = Progressed()
        carried_out = Round(self._crew, self._gathered, order, enough, progressed)
        with self._line(progressed, enough.steps, enough.episodes):
            carried_out.run()
        if close:
            self.close()
        return self._gathered.round(order.round)

    def stream(self, policy: AnyPolicy | PolicyHandle) -> Iterator[TraceDataset]:
        """Let all workers act without an end, also while the caller trains.

        The stream ends when the iterator is closed or dropped, as when you leave a `for` loop. The next round, another
        stream or `close` end it, too.

        Args:
            policy: As for `collect`. Workers take up a version that a `PolicyHandle` publishes within `chunk_s`
                seconds. A fragment ends where the version changes.

        Yields:
            The trajectories that were written since the last time, finished episodes and fragments, about every
            `chunk_s` seconds. The more the directory holds, the longer it takes to look for new ones. A quarter of
            the time at most is spent on that.

        Raises:
            PolicyError: If the policy is of another kind, or cannot be pickled.
            WorkerError: As for `collect`.
            ProtocolError: If the collector is closed.
        """
        version = self._version(policy)
        number = self._rounds
        self._rounds += 1

        def order() -> Order:
            newest = policy.published if isinstance(policy, PolicyHandle) else version
            return Order(number, newest, is_endless=True, chunk_s=self._chunk_s)

        progressed = Progressed()
        with self._line(progressed), Streaming(self._crew, order, progressed) as streaming:
            self._streaming, pause = streaming, self._chunk_s
            while streaming.is_running(pause):
                began = monotonic()
                view = self._gathered.new(number)
                pause = max(self._chunk_s, 3 * (monotonic() - began))
                if len(view):
                    yield view

    def written(self) -> TraceDataset:
        """Everything that the workers have written so far, in all rounds and streams; also after `close`.

        Returns:
            The data, ordered by round, worker, environment and time.
        """
        return self._gathered.everything()

    def close(self) -> None:
        """Let the workers write their running episodes, and end them. A second call does nothing.

        Raises:
            WorkerError: If a worker could not write.
        """
        if self._is_closed:
            return
        self._is_closed = True
        exits.closed(self)
        if self._streaming is not None:
            self._streaming.stop()
        if ray.is_initialized():
            self._crew.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Collector of {len(self._crew)} workers into {shown(self.directory)!r}, {self._rounds} rounds>"

    def _line(
        self, progressed: Progressed, steps: int | None = None, episodes: int | None = None
    ) -> AbstractContextManager[None]:
        """The line on a terminal, where it is to be shown."""
        if not self._progress:
            return nullcontext()
        return line(len(self._crew), progressed, DiskUsage(self.directory), steps, episodes)

    def _version(self, policy: AnyPolicy | PolicyHandle) -> Policy:
        """The policy as it is now."""
        if self._is_closed:
            raise ProtocolError("expected an open collector, got one that is closed; make a new one")
        if self._streaming is not None:
            self._streaming.stop()
        if isinstance(policy, PolicyHandle):
            return policy.published
        check_policy(policy, self._acting["deterministic_policy"])
        version = Policy(self._versions, [put(packed(policy), "policy")])
        self._versions += 1
        return version
