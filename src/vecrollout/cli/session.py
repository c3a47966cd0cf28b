"""A recording: steps a policy in environments until there is enough, or until Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from vecrollout.collecting.policy import PolicyCallable
from vecrollout.data.sizes import size_text
from vecrollout.progress import live_line
from vecrollout.recording.environments import num_envs_of
from vecrollout.recording.sb3 import BufferingWrapper
from vecrollout.recording.vector import VectorBufferingWrapper
from vecrollout.storage.files.usage import DiskUsage


class Shares:
    """A sink that passes a fixed number of episodes of each environment on to a writer, and counts them.

    Each environment has the same share of the episodes. To stop when there are enough episodes of any environment
    would favor short ones.

    Args:
        writer: Gets the trajectories.
        episodes: How many to pass on, of all environments together; None: all.
        num_envs: Number of environments.
    """

    def __init__(self, writer: Any, episodes: int | None, num_envs: int) -> None:
        self._writer = writer
        every, more = (0, 0) if episodes is None else divmod(episodes, num_envs)
        self._left = None if episodes is None else np.array([every + (env < more) for env in range(num_envs)])
        self.returns: list[float] = []
        """Of the episodes that ended, their fragments included; empty without rewards that are numbers."""
        self.lengths: list[int] = []
        self.steps = 0
        """Steps that were passed on."""
        self.endings: Counter[str] = Counter()
        self._running: dict[int, tuple[float, int]] = {}

    @property
    def done(self) -> bool:
        """Whether there are enough episodes."""
        return self._left is not None and not self._left.any()

    def append(self, trajectory: Any, /) -> None:
        """Take one trajectory."""
        self.extend([trajectory])

    def extend(self, trajectories: Any, /) -> None:
        """Take trajectories."""
        kept = [each for each in trajectories if self._counts(each)]
        if kept:
            self._writer.extend(trajectories if len(kept) == len(trajectories) else kept)

    def flush(self) -> None:
        """Make what was passed on durable."""
        self._writer.flush()

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()

    def _counts(self, trajectory: Any) -> bool:
        episode = trajectory.episode
        env = episode.env_index
        if self._left is not None and not self._left[env]:
            return False
        steps = len(trajectory)
        before = self._running.pop(env, (0.0, 0))
        so_far = before[0] + float(np.sum(trajectory.rews, dtype=np.float64)), before[1] + steps
        self.steps += steps
        if episode.ended_by in ("terminated", "truncated"):
            if trajectory.rews.ndim == 1:
                self.returns.append(so_far[0])
            self.lengths.append(so_far[1])
            if self._left is not None:
                self._left[env] -= 1
        elif episode.ended_by is None:
            self._running[env] = so_far
        if episode.ended_by is not None:
            self.endings[episode.ended_by] += 1
        return True


class Session:
    """Lets a policy act until there is enough.

    Args:
        recorder: Records.
        shares: The recorder's sink.
        act: The policy.
        see: What the policy sees of recorded observations.
        steps: How many steps are enough; None: what `shares` says.
        seed: Seed of the first reset.
    """

    def __init__(
        self,
        recorder: BufferingWrapper | VectorBufferingWrapper,
        shares: Shares,
        act: PolicyCallable,
        see: Callable[[Any], Any],
        steps: int | None,
        seed: int,
    ) -> None:
        self.recorder, self.shares = recorder, shares
        self._seed = seed
        self._act, self._see = act, see
        self._steps = steps
        self._began = time.monotonic()
        self.elapsed_s = 0.0
        self._stored = DiskUsage(recorder.directory)
        self.interrupted = False

    def run(self) -> None:
        """Step until there is enough, or until Ctrl-C, after which the step in flight is still recorded."""
        with self._interruptible(), live_line(self._line):
            obs, states = self._first_obs(), None
            starts = np.ones(num_envs_of(self.recorder), np.bool_)
            self._began = time.monotonic()
            while not (self.interrupted or self.shares.done or self._has_steps):
                acts, states = self._act(self._see(obs), states, starts)
                obs, _, starts = self.recorder.advance(acts)
            self.elapsed_s = time.monotonic() - self._began

    def _first_obs(self) -> Any:
        if isinstance(self.recorder, VectorBufferingWrapper):
            return self.recorder.reset(seed=self._seed)[0]
        # `make_vec_env` has set the seeds of a `VecEnv`.
        return self.recorder.restart()

    @property
    def _has_steps(self) -> bool:
        return self._steps is not None and self.recorder.stepped >= self._steps

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C ends the loop after the step in flight, the second one at once."""

        def interrupt(number: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _line(self) -> str:
        """How far it is."""
        steps, shares = self.recorder.stepped, self.shares
        speed = steps / max(time.monotonic() - self._began, 1e-9)
        parts = [f"{steps:,} steps", f"{speed:,.0f} a second", f"{len(shares.lengths):,} episodes"]
        if shares.returns:
            parts.append(f"mean return {np.mean(shares.returns):,.2f}")
        stored = self._stored.bytes()
        if stored is not None:
            parts.append(size_text(stored))
        parts.append("stopping" if self.interrupted else "Ctrl-C stops and keeps everything")
        return " · ".join(parts)
