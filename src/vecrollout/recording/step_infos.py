"""The infos of a step of a vector environment, one environment at a time, in whatever layout they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from vecrollout._typing import Info
from vecrollout.buffer import BatchedInfos, deep_copied, info_of, with_arrays
from vecrollout.errors import StructureError
from vecrollout.recording.batching import Batching, row_of
from vecrollout.recording.final_obs import (
    FINAL_INFO,
    OBS_KEYS,
    with_statistics,
    without_finals,
    without_statistics,
)


class BatchedStep:
    """Infos as Gymnasium has them: an array a key, and masks.

    Args:
        infos: The infos.
        count: Number of environments in the step's arrays.
        has_finals: Whether last observations and infos of episodes are among them.
    """

    def __init__(self, infos: Info, count: int, has_finals: bool) -> None:
        self._given = infos
        self._has_finals = has_finals
        self._count = count
        self._finals: dict[str, Any] = {}

    @cached_property
    def _infos(self) -> Info:
        return with_arrays(self._given)

    @cached_property
    def _own(self) -> Info:
        return without_finals(self._infos) if self._has_finals else self._infos

    def kept(self, copied: Callable[[Info, int], BatchedInfos]) -> BatchedInfos:
        """The infos as a buffer takes them; those of a device are copied from it once."""
        is_converted = "_infos" in vars(self)
        own = self._own if is_converted else without_finals(self._given) if self._has_finals else self._given
        return copied(own, self._count)

    def own(self, at: int) -> Info:
        """One environment's info."""
        return info_of(self._own, at, self._count)

    def final_obs(self, at: int, observations: Batching) -> Any:
        """The last observation of an environment's episode; None if it is not there."""
        for key in OBS_KEYS:
            mask = self._infos.get(f"_{key}")
            if key in self._infos and (mask is None or mask[at]):
                if key not in self._finals:
                    self._finals[key] = observations.rows(self._infos[key], self._count, f"infos[{key!r}]")
                return row_of(self._finals[key], at)
        return None

    def final_info(self, at: int) -> Info:
        """The info of an environment's last step, whatever the reset that followed put in its place."""
        finals, own = self._infos.get(FINAL_INFO), self.own(at)
        if isinstance(finals, dict):
            return with_statistics(info_of(finals, at, self._count), own)
        if finals is None or finals[at] is None:
            return own
        return with_statistics(deep_copied(finals[at]), own)

    def reset_info(self, at: int) -> Info | None:
        """The info of the reset that followed an environment's last step, without statistics of that step."""
        return without_statistics(self.own(at))


class ListedStep:
    """Infos as a dict an environment, as older vector environments have them. The arguments are those of `BatchedStep`.

    Source:
        `supersuit.vector.MarkovVectorEnv` (SuperSuit 3.11), which keeps last observations as SB3 does.
    """

    def __init__(self, infos: Sequence[Info | None], count: int, has_finals: bool) -> None:
        if len(infos) != count or not all(info is None or isinstance(info, Mapping) for info in infos):
            raise StructureError(
                f"infos: expected a dict of arrays, or {count} dicts, one an environment, got a "
                f"{type(infos).__name__} of {len(infos)}"
            )
        self._infos = [deep_copied(dict(info)) if info else {} for info in infos]
        self._has_finals = has_finals

    def kept(self, copied: Callable[[Info, int], BatchedInfos]) -> list[Info]:
        """The infos as a buffer takes them."""
        return [self.own(at) for at in range(len(self._infos))]

    def own(self, at: int) -> Info:
        """One environment's info."""
        return without_finals(self._infos[at]) if self._has_finals else self._infos[at]

    def final_obs(self, at: int, observations: Batching) -> Any:
        """The last observation of an environment's episode; None if it is not there."""
        info = self._infos[at]
        return next((info[key] for key in (*OBS_KEYS, "terminal_observation") if info.get(key) is not None), None)

    def final_info(self, at: int) -> Info:
        """The info of an environment's last step."""
        info = self._infos[at].get(FINAL_INFO)
        return self.own(at) if info is None else dict(info)

    def reset_info(self, at: int) -> Info | None:
        """The info of the reset that followed; None: not known, unless the last step has an info of its own."""
        return None if self._infos[at].get(FINAL_INFO) is None else self.own(at)


StepInfos: TypeAlias = BatchedStep | ListedStep


def step_infos(infos: Any, count: int, has_finals: bool) -> StepInfos:
    """The infos of a step."""
    if infos is None or isinstance(infos, Mapping):
        infos = infos if type(infos) is dict else dict(infos or {})
        return BatchedStep(infos, count, has_finals)
    if isinstance(infos, Sequence) and not isinstance(infos, str):
        return ListedStep(infos, count, has_finals)
    raise StructureError(
        f"infos: expected a dict of arrays, or {count} dicts, one an environment, got a {type(infos).__name__}"
    )
