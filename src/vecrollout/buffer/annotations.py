"""Named arrays that somebody adds to the infos of a step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info
from vecrollout.buffer.infos import BatchedInfos
from vecrollout.data.foreign import as_array
from vecrollout.errors import ArgumentTypeError, OptionError, ShapeError


class AnnotatedInfos:
    """A step's infos with annotations, which become entries of dicts only when they are asked for."""

    __slots__ = ("_annotations", "_infos")

    def __init__(self, infos: Sequence[Info] | BatchedInfos, annotations: BatchedInfos) -> None:
        self._infos = infos
        self._annotations = annotations

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[Info]:
        return ({**info, **each} for info, each in zip(self._infos, self._annotations, strict=True))


class Annotations:
    """The annotations of steps to come.

    Args:
        num_envs: Number of environments, E.
    """

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        # By name: rows of all environments, and which of them are known.
        self._waiting: dict[str, tuple[Array, Array]] = {}
        self._may_hide_infos = True

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, arrays: Mapping[str, Any], envs: Array | None) -> None:
        """Keep copies of arrays with a row for each environment, or for each of `envs`. All of them or none."""
        waiting = {name: self._added(name, array, envs) for name, array in arrays.items()}
        self._waiting.update(waiting)

    def forget(self) -> None:
        """The step that the annotations were for does not come."""
        self._waiting = {}

    def take(self, envs: Array | None) -> BatchedInfos:
        """The annotations of a step of all environments, or of some; the others' stay."""
        batch: Info = {}
        for name, (rows, is_known) in self._waiting.items():
            batch[name], batch[f"_{name}"] = (rows, is_known) if envs is None else (rows[envs], is_known[envs])
        taken = BatchedInfos(batch, self._num_envs if envs is None else len(envs))
        if envs is not None:
            for _, is_known in self._waiting.values():
                is_known[envs] = False
        self._waiting = {name: each for name, each in self._waiting.items() if envs is not None and each[1].any()}
        return taken

    def warn_of_hidden(self, infos: Sequence[Info] | BatchedInfos) -> None:
        """Warn once if an annotation takes the place of an environment's own info."""
        if not self._may_hide_infos:
            return
        names = self._waiting.keys()
        each = [infos.keys()] if isinstance(infos, BatchedInfos) else infos
        hidden = next((names & keys for keys in map(set, each) if not names.isdisjoint(keys)), None)
        if hidden:
            self._may_hide_infos = False
            warnings.warn(
                f"annotate: the environments' infos have the key {min(hidden)!r} too. The annotation takes its place; "
                "give the annotation another name to keep both",
                stacklevel=6,
            )

    def _added(self, name: str, array: Any, envs: Array | None) -> tuple[Array, Array]:
        if name.startswith("_"):
            raise OptionError(f"annotate: expected names that do not begin with an underscore, got {name!r}")
        if isinstance(array, tuple | Mapping):
            raise ArgumentTypeError(
                f"annotate: {name}: expected one array, got a {type(array).__name__}; give each of its arrays a name: "
                f"{name}_0=..., {name}_1=..."
            )
        rows = np.array(as_array(array, f"annotate: {name}"))
        expected = self._num_envs if envs is None else len(envs)
        if not rows.ndim or len(rows) != expected:
            raise ShapeError(
                f"annotate: {name}: expected {expected} rows, one for each environment, got shape {rows.shape}; a "
                "state with the environments in its second dimension needs np.moveaxis(state, 1, 0)"
            )
        if envs is None:
            return rows, np.ones(expected, bool)
        known = self._waiting.get(name)
        if known is None:
            known = np.zeros((self._num_envs, *rows.shape[1:]), rows.dtype), np.zeros(self._num_envs, bool)
        everybodys, is_known = known[0].copy(), known[1].copy()
        if rows.dtype != everybodys.dtype or rows.shape[1:] != everybodys.shape[1:]:
            raise ShapeError(
                f"annotate: {name}: expected rows of shape {everybodys.shape[1:]} and dtype {everybodys.dtype}, like "
                f"those that wait for their steps, got {rows.shape[1:]} and {rows.dtype}"
            )
        everybodys[envs], is_known[envs] = rows, True
        return everybodys, is_known
