"""Which infos of a step a log keeps, and the named arrays that somebody adds to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array, Info, RecordInfos
from vecrollout.buffer.episodes import Ending
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


class KeptInfos:
    """Chooses which infos a log keeps, and how.

    Args:
        record_infos: `"all"`, `"none"`, or keys.
        num_envs: Number of environments.
    """

    def __init__(self, record_infos: RecordInfos, num_envs: int) -> None:
        self.any = record_infos != "none"
        """Whether infos are kept."""
        self.keys = None if isinstance(record_infos, str) else tuple(record_infos)
        """The environments' keys that are kept; None: all or none."""
        self.are_plain = self._keeps_all = record_infos == "all"
        """Whether the infos of the next step are kept as they are."""
        self._num_envs = num_envs
        # Annotations of steps to come. By name: rows of all environments, and which of them are known.
        self._waiting: dict[str, tuple[Array, Array]] = {}
        self._may_hide_infos = True

    def annotate(self, arrays: Mapping[str, Any], envs: Array | None) -> None:
        """Add copies of arrays with a row for each environment, or for each of `envs`. All of them or none."""
        if not self.any:
            raise OptionError(
                'annotate: expected a recorder that keeps infos, got record_infos="none"; pass record_infos=[] '
                "to keep annotations only"
            )
        self._waiting |= {name: self._added(name, array, envs) for name, array in arrays.items()}
        self.are_plain = self._keeps_all and not self._waiting

    def forget_annotations(self) -> None:
        """The next step does not come."""
        self._waiting = {}
        self.are_plain = self._keeps_all

    def of_step(
        self, infos: Sequence[Info] | BatchedInfos, endings: Sequence[Ending] = (), envs: Array | None = None
    ) -> Any:
        """The infos of a step as a record has them; those of endings are replaced."""
        if self.are_plain:
            return infos if type(infos) is BatchedInfos else tuple(infos)
        if not self.any:
            return ()
        kept = infos if type(infos) is BatchedInfos or self.keys is None else tuple(map(self._chosen, infos))
        if self.keys is not None:
            for ending in endings:
                ending.info = ending.info and self._chosen(ending.info)
        if self._waiting:
            return self._annotated(kept, endings, envs)
        return kept if type(kept) is BatchedInfos else tuple(kept)

    def _annotated(self, infos: Sequence[Info] | BatchedInfos, endings: Sequence[Ending], envs: Array | None) -> Any:
        self._warn_of_hidden(infos)
        annotations = self._take(envs)
        self.are_plain = self._keeps_all and not self._waiting
        for ending in endings:
            if ending.info is not None:
                at = ending.env if envs is None else envs.tolist().index(ending.env)
                ending.info = {**ending.info, **annotations[at]}
        return AnnotatedInfos(infos if type(infos) is BatchedInfos else tuple(infos), annotations)

    def _take(self, envs: Array | None) -> BatchedInfos:
        """Take the annotations of a step of all environments, or of some; the others' stay."""
        batch: Info = {}
        for name, (rows, is_known) in self._waiting.items():
            batch[name], batch[f"_{name}"] = (rows, is_known) if envs is None else (rows[envs], is_known[envs])
        taken = BatchedInfos(batch, self._num_envs if envs is None else len(envs))
        if envs is not None:
            for _, is_known in self._waiting.values():
                is_known[envs] = False
        self._waiting = {name: each for name, each in self._waiting.items() if envs is not None and each[1].any()}
        return taken

    def _warn_of_hidden(self, infos: Sequence[Info] | BatchedInfos) -> None:
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

    def _chosen(self, info: Info) -> Info:
        return info if self.keys is None else {key: info[key] for key in self.keys if key in info}
