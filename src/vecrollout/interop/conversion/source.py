"""What a conversion is given, as batches of bounded size."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

import gymnasium

from vecrollout.data.array_tree import ArrayTree
from vecrollout.data.batch import TrajectoryBatch
from vecrollout.data.grouping import grouped, kind_of
from vecrollout.data.kinds import Kind, Part
from vecrollout.data.trajectory import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError, StructureError
from vecrollout.progress import Progress, with_progress

_Part = TypeVar("_Part")


class Source:
    """Trajectories to convert, and what is known of their environment.

    Args:
        trajectories: A `TraceDataset`, a view of one, a `TrajectoryBatch`, or any iterable of trajectories, which is
            gone through once.
        spaces: Observation and action space; None: those of the data set.
        env_spec: The environment's `EnvSpec`, or its JSON; None: that of the data set.
        progress: Whether to show a bar on a terminal, and whose; None: that of a package that is installed.
    """

    def __init__(
        self,
        trajectories: Any,
        *,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None,
        env_spec: Any = None,
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(trajectories, Iterable) or isinstance(trajectories, str | bytes | Trajectory):
            raise ArgumentTypeError(
                f"trajectories: expected a data set, a batch or a list, got {type(trajectories).__name__}"
            )
        self._trajectories = trajectories
        self._progress = progress
        self._spaces = None if spaces is None else checked_spaces(spaces)
        self._env_spec = env_spec_json(env_spec)

    @property
    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None:
        """Observation and action space, or None; a `SpaceMismatchError` where a data set has several."""
        if self._spaces is not None:
            return self._spaces
        own = tuple(getattr(self._trajectories, f"{name}_space", None) for name in ("observation", "action"))
        return None if None in own else own  # type: ignore[return-value]  # a pair

    @property
    def env_spec(self) -> str | None:
        """The environment's `EnvSpec` as JSON, or None; a `SpaceMismatchError` where a data set has several."""
        return self._env_spec or env_spec_json(getattr(self._trajectories, "env_spec", None))

    def batches(self) -> Iterator[TrajectoryBatch]:
        """All trajectories, in batches of the same structure and shapes, for formats that have one array for all."""
        first: Kind | None = None
        written = 0
        for batch in self._with_progress(_batches(self._trajectories), attrgetter("total_steps")):
            if first is None:
                first = batch.kind
            _check_alike(first, batch.kind, written)
            yield batch
            written += len(batch)

    def trajectories(self) -> Iterator[Any]:
        """All trajectories, of the same structure and shapes, for formats that have arrays for each."""
        first: Trajectory | None = None
        form: Any = None
        for number, each in enumerate(self._with_progress(_checked(_trajectories(self._trajectories)), len)):
            its = _form(each.obs), _form(each.acts), isinstance(each, TrajectoryWithRew)
            if first is None:
                first, form = each, its
            if its != form:
                _check_alike(kind_of(first), kind_of(each), number)
            yield each

    def _with_progress(self, parts: Iterable[_Part], steps_of: Callable[[_Part], int]) -> Iterator[_Part]:
        total = getattr(self._trajectories, "total_steps", None)
        return with_progress(parts, steps_of, self._progress, "steps", total)


def rewards_of(given: Any, format_name: str) -> Any:
    """The rewards of a trajectory or a batch, for a format that has to have them."""
    rews = getattr(given, "rews", None)
    if rews is None:
        raise ArgumentTypeError(f"trajectories: expected rewards, which {format_name} needs, got some without")
    return rews


def checked_spaces(spaces: Any) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Observation and action space."""
    pair = tuple(spaces) if isinstance(spaces, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(space, gymnasium.Space) for space in pair):
        raise ArgumentTypeError(f"spaces: expected (observation_space, action_space), got {spaces!r}")
    return pair


def env_spec_json(spec: Any) -> str | None:
    """An environment's `EnvSpec` as JSON; None for text that is another name of an environment."""
    if spec is None:
        return None
    text = spec if isinstance(spec, str) else getattr(spec, "to_json", lambda: None)()
    if not isinstance(text, str):
        raise ArgumentTypeError(f"env_spec: expected an EnvSpec or its JSON, got {type(spec).__name__}")
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return text if isinstance(document, dict) and "id" in document else None


def _trajectories(trajectories: Any) -> Iterable[Any]:
    if hasattr(trajectories, "batches"):
        return chain.from_iterable(trajectories.batches())
    found: Iterable[Any] = trajectories
    return found


def _batches(trajectories: Any) -> Iterator[TrajectoryBatch]:
    if isinstance(trajectories, TrajectoryBatch):
        if len(trajectories):
            yield trajectories
    elif hasattr(trajectories, "batches"):
        yield from trajectories.batches()
    else:
        yield from grouped(_checked(trajectories))


def _checked(trajectories: Iterable[Any]) -> Iterator[Trajectory]:
    for number, each in enumerate(trajectories):
        if not isinstance(each, Trajectory):
            raise ArgumentTypeError(f"trajectory {number}: expected a Trajectory, got {type(each).__name__}")
        yield each


def _form(tree: Any) -> Any:
    """Structure and shapes of rows; a quicker answer than a `Kind`."""
    if isinstance(tree, ArrayTree):
        return type(tree), {key: _form(entry) for key, entry in tree.items()}
    return tree.shape[1:]


def _check_alike(first: Kind, kind: Kind, number: int) -> None:
    for name, expected, got in (("obs", first.obs, kind.obs), ("acts", first.acts, kind.acts)):
        if got == expected:
            continue
        if got.structure != expected.structure:
            entries = [sorted(part.structure.names(name)) for part in (expected, got)]
            # The order of a dict's keys is free.
            if entries[0] != entries[1]:
                raise StructureError(
                    f"trajectory {number}: {name}: expected the entries {entries[0]} as in the first, got {entries[1]}"
                )
        if _shapes(name, got) != _shapes(name, expected):
            raise ShapeError(
                f"trajectory {number}: {name}: expected rows of shape {_shapes(name, expected)} as in the first, got "
                f"{_shapes(name, got)}"
            )
    if (kind.rews is None) != (first.rews is None):
        raise ArgumentTypeError(f"trajectory {number}: expected all with rewards or all without, got some of both")


def _shapes(name: str, part: Part) -> dict[str, tuple[int, ...]]:
    return {leaf: item.shape for leaf, item in zip(part.structure.names(name), part.items, strict=True)}


def checked_final(final: str) -> None:
    """Refuse an unknown choice of what is done with last observations."""
    if final not in ("append", "drop"):
        raise OptionError(f'final: expected "append" or "drop", got {final!r}')
