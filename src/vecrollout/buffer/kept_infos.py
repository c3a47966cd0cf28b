"""Which infos of a step a log keeps, and the annotations among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vecrollout._typing import Array, Info, RecordInfos
from vecrollout.buffer.annotations import AnnotatedInfos, Annotations
from vecrollout.buffer.episodes import Ending
from vecrollout.buffer.infos import BatchedInfos
from vecrollout.errors import OptionError


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
        self._annotations = Annotations(num_envs)

    def annotate(self, arrays: Mapping[str, Any], envs: Array | None) -> None:
        """Add arrays to the infos of the next step."""
        if not self.any:
            raise OptionError(
                'annotate: expected a recorder that keeps infos, got record_infos="none"; pass record_infos=[] '
                "to keep annotations only"
            )
        self._annotations.add(arrays, envs)
        self.are_plain = self._keeps_all and not self._annotations

    def forget_annotations(self) -> None:
        """The next step does not come."""
        self._annotations.forget()
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
        if self._annotations:
            return self._annotated(kept, endings, envs)
        return kept if type(kept) is BatchedInfos else tuple(kept)

    def _annotated(self, infos: Sequence[Info] | BatchedInfos, endings: Sequence[Ending], envs: Array | None) -> Any:
        self._annotations.warn_of_hidden(infos)
        annotations = self._annotations.take(envs)
        self.are_plain = self._keeps_all and not self._annotations
        for ending in endings:
            if ending.info is not None:
                at = ending.env if envs is None else envs.tolist().index(ending.env)
                ending.info = {**ending.info, **annotations[at]}
        return AnnotatedInfos(infos if type(infos) is BatchedInfos else tuple(infos), annotations)

    def _chosen(self, info: Info) -> Info:
        return info if self.keys is None else {key: info[key] for key in self.keys if key in info}
