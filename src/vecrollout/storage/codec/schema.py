"""A shard's schema: its columns, and what its metadata says about the trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vecrollout.data.kinds import Kind

FIELDS = ("obs", "acts", "rews", "infos")
"""What of a trajectory can be read by itself."""


@dataclass(frozen=True)
class TraceSchema:
    """Which columns a shard has, and what is said about the trace as a whole."""

    obs: Any
    acts: Any
    rews: Any
    infos: Any
    about: Mapping[str, Any]
    """Writer's name, spaces, versions, the user's metadata: what the journal's header says too."""

    def to_arrow(self) -> Any:
        """The `pyarrow.Schema`."""
        raise NotImplementedError

    @classmethod
    def from_arrow(cls, schema: Any, where: str) -> TraceSchema:
        """The schema of a shard."""
        raise NotImplementedError

    def arrow_columns(self, fields: Sequence[str]) -> list[str]:
        """Names of the columns that some of a trajectory's fields are in."""
        raise NotImplementedError

    @cached_property
    def kind(self) -> Kind:
        """Structures, dtypes and shapes."""
        raise NotImplementedError


def read_about(about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is said of the trace as a whole, spaces and metadata as they were given."""
    raise NotImplementedError
