"""Recorded episodes once more, in a live environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from vecrollout.cli.environments import SEED, Recipe, spec_of_json
from vecrollout.cli.models import load_function
from vecrollout.data.equality import same
from vecrollout.data.structures import Structure
from vecrollout.data.trajectory import Episode, Trajectory
from vecrollout.errors import OptionError
from vecrollout.recording.batching import map_plain
from vecrollout.storage.dataset import TraceDataset

Maker = Callable[[], gym.Env[Any, Any]]

_HARMLESS = ("Monitor", "SeededEpisodes", "KeptFrames")
"""Wrappers that change neither observations nor rewards."""


@dataclass(frozen=True)
class Outcome:
    """How the replay of a trajectory went."""

    number: int
    """Of the trajectory."""
    step: int | None = None
    """Index in the episode of the first step that differs; None: none does."""
    what: str | None = None
    """What differs there, or why the trajectory cannot be replayed; None: everything is the same."""

    @property
    def is_same(self) -> bool:
        """Whether everything is the same."""
        return self.what is None


def maker_of(about: Mapping[str, Any], env: str | None, arguments: Mapping[str, Any], render_mode: str | None) -> Maker:
    """What makes the environment of a trace: as `vecrollout record` made it, by its spec, or as the user says.

    Frames are stacked as in the recording.
    """
    told = about["metadata"].get("recorded_with")
    stack = 1
    if env is not None and ":" in env and not env.rpartition(":")[2][:1].isupper():
        made: Maker = load_function(env)
    elif env is None and isinstance(told, Mapping):
        recipe = Recipe.from_json(told)
        recipe = dataclasses.replace(recipe, arguments={**recipe.arguments, **arguments}, keeps_frames=False)
        if recipe.vectorization == "own":
            raise OptionError(
                "env: expected single environments, got a recording of --vec own, which has one seed for all"
            )
        stack = recipe.frame_stack

        def made() -> gym.Env[Any, Any]:
            return recipe.one(render_mode=render_mode)

    else:
        made = _by_spec(about["env_spec"], env, arguments, render_mode)
    return made if stack == 1 else lambda: StackedFrames(made(), stack)


def _by_spec(text: Any, env: str | None, arguments: Mapping[str, Any], render_mode: str | None) -> Maker:
    spec = None if text is None or env is not None else spec_of_json(text)
    if spec is None:
        name = env or text
        if not isinstance(name, str):
            raise OptionError("env: the trace does not tell its environment; pass --env ID, or --env MODULE:FUNCTION")
        recipe = Recipe.of(name, arguments, atari=False, frame_stack=1, keeps_frames=False, vectorization="dummy")
        return lambda: recipe.one(render_mode=render_mode)
    wrappers = [each for each in spec.additional_wrappers if each.name not in _HARMLESS]
    unknown = [each.name for each in wrappers if each.kwargs is None]
    if unknown:
        raise OptionError(
            f"env: the environment was in {', '.join(unknown)}, which cannot be made again; pass --env MODULE:FUNCTION "
            "with a function that makes it"
        )
    kept = dataclasses.replace(
        spec,
        additional_wrappers=tuple(wrappers),
        kwargs={**spec.kwargs, **arguments, **({} if render_mode is None else {"render_mode": render_mode})},
    )

    def made() -> gym.Env[Any, Any]:
        try:
            return gym.make(kept)
        except (gym.error.Error, ImportError, AttributeError, TypeError) as error:
            raise OptionError(f"env: {kept.id} cannot be made: {error}; pass --env MODULE:FUNCTION") from error

    return made


class StackedFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Stacks the frames of a single environment as SB3's `VecFrameStack` does."""

    def __init__(self, env: gym.Env[Any, Any], frames: int) -> None:
        super().__init__(env)
        self._stacked: Any = StackedObservations(1, frames, env.observation_space)  # type: ignore[arg-type]

    def reset(self, **options: Any) -> Any:
        """Reset the environment."""
        obs, info = self.env.reset(**options)
        return self._first(self._stacked.reset(self._batch(obs))), info

    def step(self, action: Any) -> Any:
        """Step the environment."""
        obs, *others = self.env.step(action)
        stacked, _ = self._stacked.update(self._batch(obs), np.zeros(1, bool), [{}])
        return self._first(stacked), *others

    def _batch(self, obs: Any) -> Any:
        return {key: each[None] for key, each in obs.items()} if isinstance(obs, dict) else obs[None]

    def _first(self, obs: Any) -> Any:
        return {key: each[0].copy() for key, each in obs.items()} if isinstance(obs, dict) else obs[0].copy()


class Replay:
    """Replays trajectories of a data set. Each environment of the recording gets a live one of its own.

    An episode begins with the seed of its reset. Where that is unknown, as after an autoreset, it is replayed behind
    the episodes before it, which all have to be there.

    Args:
        traces: The data set.
        maker: Makes the environment of a trace, by what is known of it.
        tolerance: By how much numbers may differ.
    """

    def __init__(
        self, traces: TraceDataset, maker: Callable[[Mapping[str, Any]], Maker], tolerance: float = 0.0
    ) -> None:
        self._traces, self._maker, self._tolerance = traces, maker, tolerance
        self._episodes = [traces.identity(number) for number in range(len(traces))]
        self._ids = {(each.recording, each.id) for each in self._episodes}

    def run(
        self, numbers: set[int], watch: Callable[[int, gym.Env[Any, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        """Replay trajectories, and what they depend on.

        Args:
            numbers: Which trajectories.
            watch: Called with a trajectory's number and its environment after the reset and after each step.
        """
        lanes: dict[Any, list[int]] = {}
        for number, each in enumerate(self._episodes):
            lanes.setdefault((each.recording, each.env_index), []).append(number)
        for lane in lanes.values():
            lane.sort(key=lambda number: (self._episodes[number].id or 0, self._episodes[number].start_step))
            if numbers.intersection(lane):
                yield from self._lane(lane, numbers, watch)

    def _lane(self, lane: list[int], numbers: set[int], watch: Any) -> Iterator[Outcome]:
        needed = self._needed(lane, numbers)
        env: gym.Env[Any, Any] | None = None
        before: int | None = None  # the trajectory that the environment has just gone through
        try:
            for number in lane:
                if number not in needed:
                    before = None
                    continue
                reason = self._obstacle(number, before)
                if reason is None:
                    if env is None:
                        env = self._maker(self._traces.about(number))()
                    outcome = self._compared(env, number, watch if number in numbers else None)
                else:
                    outcome = Outcome(number, None, reason)
                before = number if outcome.is_same else None
                if number in numbers:
                    yield outcome
        finally:
            if env is not None:
                env.close()

    def _needed(self, lane: list[int], numbers: set[int]) -> set[int]:
        """The trajectories to replay: from the last seeded reset before each of the chosen ones."""
        needed: set[int] = set()
        behind: list[int] = []
        for number in lane:
            episode = self._episodes[number]
            if episode.start_step == 0 and seed_of(episode) is not None:
                behind = []
            behind.append(number)
            if number in numbers:
                needed.update(behind)
                behind = []
        return needed

    def _obstacle(self, number: int, before: int | None) -> str | None:
        """Why a trajectory cannot be replayed; None: it can be."""
        episode = self._episodes[number]
        if episode.start_step == 0 and seed_of(episode) is not None:
            return None
        if before is not None and self._follows(self._episodes[before], before, episode):
            return None
        if episode.start_step:
            return "not replayed: the steps of the episode before it are missing, or differ"
        return "not replayed: its reset had no seed, and the episodes before it are missing, or differ"

    def _follows(self, before: Episode, number: int, episode: Episode) -> bool:
        if before.id is None or episode.id is None:
            return False
        if episode.start_step:
            return before.id == episode.id and before.start_step + self._traces.lengths[number] == episode.start_step
        # An episode of this environment may be missing, unless all episodes in between are there.
        between = range(before.id + 1, episode.id)
        return before.ended_by is not None and all((episode.recording, each) in self._ids for each in between)

    def _compared(self, env: gym.Env[Any, Any], number: int, watch: Any) -> Outcome:
        trajectory, episode = self._traces[number], self._episodes[number]
        first = episode.start_step
        if first == 0:
            seed = seed_of(episode)
            obs, _ = env.reset() if seed is None else env.reset(seed=seed)
            what = self._difference("first observation", trajectory.obs[0], obs)
            if what is not None:
                return Outcome(number, 0, what)
            if watch is not None:
                watch(number, env)
        for step in range(len(trajectory)):
            obs, rew, terminated, truncated, _ = env.step(_action(trajectory, step))
            is_last = step == len(trajectory) - 1
            told = {
                "observation": (trajectory.obs[step + 1], obs),
                "reward": (trajectory.rews[step], rew) if hasattr(trajectory, "rews") else (0, 0),
                "terminated": (is_last and trajectory.terminated, terminated),
                "truncated": (is_last and trajectory.truncated, truncated),
            }
            for name, (expected, got) in told.items():
                what = self._difference(name, expected, got)
                if what is not None:
                    return Outcome(number, first + step, what)
            if watch is not None:
                watch(number, env)
        return Outcome(number)

    def _difference(self, name: str, expected: Any, got: Any) -> str | None:
        structure = Structure.of(expected)
        try:
            leaves = structure.flatten(map_plain(np.asarray, got) if isinstance(got, dict | tuple) else np.asarray(got))
        except Exception as error:  # another structure
            return f"{name}: {error}"
        for where, one, other in zip(structure.names(name), structure.flatten(expected), leaves, strict=True):
            if not _alike(np.asarray(one), np.asarray(other), self._tolerance):
                return f"{where}: recorded {_short(one)}, now {_short(other)}"
        return None


def _alike(recorded: Any, live: Any, tolerance: float) -> bool:
    if recorded.dtype == object or recorded.dtype.kind in "OSU":
        return same(recorded.tolist(), live.tolist())
    if recorded.shape != live.shape:
        return False
    # Vector environments store values with the dtype of the space.
    live = live.astype(recorded.dtype)
    if tolerance and recorded.dtype.kind in "fc":
        return bool(np.allclose(recorded, live, rtol=0.0, atol=tolerance, equal_nan=True))
    return bool(np.array_equal(recorded, live, equal_nan=recorded.dtype.kind in "fc"))


def _short(value: Any) -> str:
    array = np.asarray(value)
    return f"an array of shape {array.shape}" if array.size > 8 else " ".join(str(array.tolist()).split())


def _action(trajectory: Trajectory, step: int) -> Any:
    row = trajectory.acts[step]
    return row if isinstance(row, np.ndarray | np.generic) else map_plain(_identity, row)


def _identity(leaf: Any) -> Any:
    return leaf


def seed_of(episode: Episode) -> int | None:
    """The seed of the reset that began an episode: passed to it, or told in its info."""
    if episode.seed is not None:
        return episode.seed
    told = (episode.reset_info or {}).get(SEED)
    return None if told is None else int(told)
