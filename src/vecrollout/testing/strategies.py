"""Hypothesis strategies for spaces, trajectories, scenarios, and operations on recorders."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces as kinds
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from vecrollout.data.trajectory import Episode, TrajectoryWithRew
from vecrollout.testing.counting import EpisodeScript
from vecrollout.testing.scenario import Scenario
from vecrollout.testing.spaces import VEC_ENV_SPACES

_DTYPES: tuple[type[np.generic], ...] = (np.float32, np.float64, np.float16, np.uint8, np.int16, np.int64)
_KEYS = ("a", "b", "camera", "with space", "ünïcode")

Action: TypeAlias = Literal["step", "pop_transitions", "pop_trajectories", "pop_finished_trajectories", "reset"]


class Operation(NamedTuple):
    """An operation on a recorder."""

    action: Action
    """Name of the operation."""
    times: int
    """Number of times; 1 except for steps."""


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of small arrays, some without dimensions, some with dimensions of size 0."""
    return npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def leaf_spaces() -> st.SearchStrategy[gym.Space[Any]]:
    """Spaces whose elements are arrays or numbers: Box, Discrete, MultiDiscrete and MultiBinary."""
    boxes = st.builds(_box, shapes(), st.sampled_from(_DTYPES))
    discrete = st.builds(lambda n, start: kinds.Discrete(n, start=start), st.integers(1, 99), st.integers(-9, 9))
    multi_discrete = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(kinds.MultiDiscrete)
    multi_binary = st.integers(1, 9).map(kinds.MultiBinary)
    return st.one_of(boxes, discrete, multi_discrete, multi_binary)


def flat_spaces() -> st.SearchStrategy[gym.Space[Any]]:
    """Spaces that a Stable-Baselines3 `VecEnv` supports: `leaf_spaces`, and Dict and Tuple spaces of them."""
    return st.one_of(leaf_spaces(), _dicts(leaf_spaces()), _tuples(leaf_spaces()))


def nested_spaces() -> st.SearchStrategy[gym.Space[Any]]:
    """Spaces with nested Dict and Tuple spaces."""
    return st.recursive(leaf_spaces(), lambda inner: _dicts(inner) | _tuples(inner), max_leaves=6)


def ragged_spaces() -> st.SearchStrategy[gym.Space[Any]]:
    """Spaces whose elements differ in length: Graph, and Sequence of all kinds of spaces."""
    texts: st.SearchStrategy[gym.Space[Any]] = st.just(kinds.Text(5))
    features = st.one_of(leaf_spaces(), texts, _dicts(leaf_spaces()), _tuples(leaf_spaces()))
    sequences = st.builds(_sequence, st.one_of(features, features.map(kinds.Sequence)), st.booleans())
    boxes: st.SearchStrategy[Any] = st.builds(_box, npst.array_shapes(max_dims=2, max_side=3), st.sampled_from(_DTYPES))
    discrete: st.SearchStrategy[Any] = st.integers(1, 9).map(kinds.Discrete)
    graphs = st.builds(kinds.Graph, st.one_of(boxes, discrete), st.one_of(st.none(), boxes, discrete))
    return st.one_of(sequences, graphs)


def elements(space: gym.Space[Any]) -> st.SearchStrategy[Any]:
    """Single elements of a space, with any values of the dtype.

    Args:
        space: A Gymnasium space.
    """
    if isinstance(space, kinds.Dict):
        return st.fixed_dictionaries({key: elements(child) for key, child in space.spaces.items()})
    if isinstance(space, kinds.Tuple):
        return st.tuples(*(elements(child) for child in space.spaces))
    if isinstance(space, kinds.Text):
        return st.text(max_size=space.max_length)
    if isinstance(space, kinds.Graph):
        return _graphs(space)
    if isinstance(space, kinds.Sequence):
        if not space.stack:
            return st.lists(elements(space.feature_space), max_size=3).map(tuple)
        return st.integers(0, 3).flatmap(lambda rows: batches(space.feature_space, rows))
    assert space.dtype is not None
    scalars = npst.from_dtype(space.dtype).map(space.dtype.type)
    return scalars if isinstance(space, kinds.Discrete) else npst.arrays(space.dtype, space.shape or ())


def batches(space: gym.Space[Any], rows: int) -> st.SearchStrategy[Any]:
    """Several elements of a space along the first dimension of every leaf, in the space's dtypes.

    Values are any values of the dtype, such as NaN, infinities and negative zeros, even if the space excludes them.
    Elements of Text, Sequence and Graph spaces are objects in an array.

    Args:
        space: A Gymnasium space.
        rows: Number of elements.
    """
    if isinstance(space, kinds.Dict):
        return st.fixed_dictionaries({key: batches(child, rows) for key, child in space.spaces.items()})
    if isinstance(space, kinds.Tuple):
        return st.tuples(*(batches(child, rows) for child in space.spaces))
    if isinstance(space, kinds.Text | kinds.Graph | kinds.Sequence):
        return st.lists(elements(space), min_size=rows, max_size=rows).map(_objects)
    assert space.shape is not None
    assert space.dtype is not None
    return npst.arrays(space.dtype, (rows, *space.shape))


def infos() -> st.SearchStrategy[dict[str, Any]]:
    """Info dicts of plain data and small arrays."""
    numbers: st.SearchStrategy[Any] = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False))
    arrays: st.SearchStrategy[Any] = npst.arrays(np.float32, npst.array_shapes(min_dims=0, max_dims=2, max_side=3))
    values = st.one_of(st.none(), numbers, st.text(max_size=5), arrays)
    return st.dictionaries(st.text(max_size=5), values, max_size=3)


@st.composite
def trajectories(
    draw: st.DrawFn,
    obs_space: gym.Space[Any] | None = None,
    act_space: gym.Space[Any] | None = None,
    *,
    min_steps: int = 1,
    max_steps: int = 6,
) -> TrajectoryWithRew:
    """Trajectories with any data.

    Args:
        draw: Passed by Hypothesis. Do not pass it.
        obs_space: Observation space. None: any of `nested_spaces`.
        act_space: Action space. None: any of `leaf_spaces`.
        min_steps: The fewest steps, 1 or more.
        max_steps: The most steps.
    """
    obs_space = draw(nested_spaces()) if obs_space is None else obs_space
    act_space = draw(leaf_spaces()) if act_space is None else act_space
    steps = draw(st.integers(min_steps, max_steps))
    terminated, truncated = draw(st.booleans()), draw(st.booleans())
    ended_by: Any = "terminated" if terminated else "truncated" if truncated else None
    rews: npt.NDArray[np.floating[Any]] = draw(npst.arrays(draw(st.sampled_from((np.float32, np.float64))), steps))
    return TrajectoryWithRew(
        obs=draw(batches(obs_space, steps + 1)),
        acts=draw(batches(act_space, steps)),
        infos=draw(st.none() | st.lists(infos(), min_size=steps, max_size=steps)),  # type: ignore[arg-type]  # a list will do
        terminal=terminated or truncated,
        terminated=terminated,
        truncated=truncated,
        episode=Episode(
            id=draw(st.integers(0, 99)),
            env_index=draw(st.integers(0, 9)),
            start_step=draw(st.integers(0, 99)),
            seed=draw(st.none() | st.integers(0, 2**32 - 1)),
            reset_info=draw(st.none() | infos()),
            ended_by=ended_by or draw(st.sampled_from(("reset_early", "closed", None))),
        ),
        rews=rews,
    )


def episode_scripts(max_steps: int = 6) -> st.SearchStrategy[EpisodeScript]:
    """Lengths and ends of episodes.

    Args:
        max_steps: The most steps of an episode.
    """
    endings: tuple[Literal["terminated", "truncated", "both"], ...] = ("terminated", "truncated", "both")
    return st.builds(EpisodeScript, st.integers(1, max_steps), st.sampled_from(endings))


def scenarios(
    spaces: tuple[str, ...] = VEC_ENV_SPACES,
    *,
    action_spaces: tuple[str, ...] = ("box", "discrete", "multi_discrete"),
    max_envs: int = 4,
    max_steps: int = 6,
) -> st.SearchStrategy[Scenario]:
    """Vectors of counting environments with any episodes.

    Args:
        spaces: Names of observation spaces in `SPACES`.
        action_spaces: Names of action spaces in `SPACES`.
        max_envs: The most environments.
        max_steps: The most steps of an episode.
    """
    episodes = st.lists(episode_scripts(max_steps), min_size=1, max_size=3)
    return st.builds(
        Scenario,
        st.sampled_from(spaces),
        st.sampled_from(action_spaces),
        st.lists(episodes, min_size=1, max_size=max_envs),
    )


def operations(max_steps: int = 8, max_size: int = 20) -> st.SearchStrategy[list[Operation]]:
    """Operations on a recorder, one after another.

    Args:
        max_steps: The most steps in one operation.
        max_size: The most operations.
    """
    actions: tuple[Action, ...] = ("pop_transitions", "pop_trajectories", "pop_finished_trajectories", "reset")
    steps = st.builds(Operation, st.just("step"), st.integers(1, max_steps))
    others = st.builds(Operation, st.sampled_from(actions), st.just(1))
    return st.lists(st.one_of(steps, others), max_size=max_size)


def _box(shape: tuple[int, ...], dtype: Any) -> gym.Space[Any]:
    if issubclass(dtype, np.floating):
        return kinds.Box(-np.inf, np.inf, shape, dtype)
    limits = np.iinfo(dtype)
    return kinds.Box(limits.min, limits.max, shape, dtype)


def _dicts(inner: st.SearchStrategy[gym.Space[Any]]) -> st.SearchStrategy[gym.Space[Any]]:
    return st.dictionaries(st.sampled_from(_KEYS), inner, min_size=1, max_size=3).map(kinds.Dict)


def _tuples(inner: st.SearchStrategy[gym.Space[Any]]) -> st.SearchStrategy[gym.Space[Any]]:
    return st.lists(inner, min_size=1, max_size=3).map(kinds.Tuple)


def _sequence(feature: gym.Space[Any], stack: bool) -> gym.Space[Any]:
    return kinds.Sequence(feature, stack=stack)


def _graphs(space: kinds.Graph) -> st.SearchStrategy[Any]:
    nodes = st.integers(0, 4).flatmap(lambda rows: batches(space.node_space, rows))
    if space.edge_space is None:
        return st.builds(kinds.GraphInstance, nodes, st.none(), st.none())
    edge_space = space.edge_space
    edges = st.integers(0, 4).flatmap(
        lambda rows: st.tuples(batches(edge_space, rows), npst.arrays(np.int32, (rows, 2)))
    )
    return st.builds(lambda nodes, edges: kinds.GraphInstance(nodes, *edges), nodes, st.just((None, None)) | edges)


def _objects(values: list[Any]) -> npt.NDArray[np.object_]:
    objects = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        objects[i] = value
    return objects
