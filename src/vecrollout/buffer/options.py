"""The options that all recorders take, and answers to options that do not exist."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, TypedDict, get_args

from vecrollout._typing import OnFull, RecordInfos
from vecrollout.data.checks import whole_number
from vecrollout.data.trajectory import Sink
from vecrollout.errors import ArgumentTypeError, OptionError


@dataclass(frozen=True)
class RecordOptions:
    """How a recorder records: the options of `BufferingWrapper`, `VectorBufferingWrapper` and `BufferingEnvWrapper`.

    Raises:
        ArgumentTypeError: If an option has another type than described, such as a `sink` without `append`.
        OptionError: If an option has another value than described.
    """

    record_infos: RecordInfos = "all"
    """Infos to keep: `"all"`, `"none"`, or a list of keys."""

    sink: Sink | None = None
    """Where finished trajectories go, instead of being held: a list, a `TraceWriter`, or another `Sink`. A trajectory
    that the sink refuses by raising stays held. The recorder offers it again when the next episode ends."""

    max_transitions: int | None = None
    """The most transitions to hold, at least one for each environment; None: no limit."""

    on_full: OnFull = "refuse"
    """What to do when the next step would hold more than `max_transitions`. `"refuse"` raises `BufferFullError` before
    the environments are stepped. `"drop_oldest"` drops the oldest finished trajectories and counts them. `"flush"`
    gives the running fragments to the sink, which bounds the memory of episodes without an end. (`"hand_over"` is
    another name of `"flush"`.)"""

    early_reset: Literal["close", "drop"] = "close"
    """What happens to running fragments when a reset is not refused. `"close"` makes finished trajectories of them
    (`terminal` is False, `episode.ended_by` is `"reset_early"`). `"drop"` drops and counts them."""

    cast: Literal["space"] | None = None
    """Whether to cast observations and actions to the dtypes of their spaces (`"space"`). Floats may lose precision.
    A value that an integer dtype cannot hold raises `DtypeError`. None: the data keeps its dtypes, and a column is
    widened without loss where they vary."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ArgumentTypeError: If an option has another type than described.
            OptionError: If an option has another value than described.
        """
        infos, sink = self.record_infos, self.sink
        if isinstance(infos, str) and infos not in ("all", "none"):
            raise OptionError(f'record_infos: expected "all", "none" or a list of keys, got {infos!r}')
        if not isinstance(infos, Iterable):
            raise ArgumentTypeError(f'record_infos: expected "all", "none" or a list of keys, got {infos!r}')
        if not isinstance(infos, str):
            object.__setattr__(self, "record_infos", tuple(infos))
        if sink is not None and not callable(getattr(sink, "append", None)):
            raise ArgumentTypeError(
                "sink: expected something with append(trajectory), such as a list or a TraceWriter, got "
                f"{type(sink).__name__}"
            )
        if self.max_transitions is not None:
            object.__setattr__(self, "max_transitions", whole_number("max_transitions", self.max_transitions))
        if self.on_full not in get_args(OnFull):
            raise OptionError(f'on_full: expected "refuse", "drop_oldest" or "flush", got {self.on_full!r}')
        if self.on_full == "hand_over":
            object.__setattr__(self, "on_full", "flush")
        if self.on_full == "flush" and sink is None:
            raise OptionError('on_full: "flush" needs a sink: expected one as sink=, got none')
        if self.early_reset not in ("close", "drop"):
            raise OptionError(f'early_reset: expected "close" or "drop", got {self.early_reset!r}')
        if self.cast not in (None, "space"):
            raise OptionError(f'cast: expected "space" or None, got {self.cast!r}')


class RecordOptionsDict(TypedDict, total=False):
    """The fields of `RecordOptions`, as the keywords that recorders take."""

    record_infos: RecordInfos
    sink: Sink | None
    max_transitions: int | None
    on_full: OnFull
    early_reset: Literal["close", "drop"]
    cast: Literal["space"] | None


_RECORDERS = "recorders such as BufferingWrapper"


def check_options(given: Iterable[str], function: Callable[..., Any], *others: Callable[..., Any]) -> None:
    """Refuse options that neither a function nor the functions behind it have.

    The nearest existing option answers a misspelled one: one of this function, else one of another public function.
    """
    passed_on = {name for each in others for name in _options_of(each)}
    for name in given:
        if name in passed_on:
            continue
        known = [*passed_on, *_options_of(function)]
        owners: dict[str, list[str]] = {}
        for public, each in _public():
            for option in _options_of(each):
                owners.setdefault(option, []).append(public)
        near = [] if name in owners else difflib.get_close_matches(name, known, 1)
        elsewhere = difflib.get_close_matches(name, owners, 1)
        if near:
            cure = f"did you mean {near[0]!r}?"
        elif elsewhere:
            is_other = "it is" if elsewhere[0] == name else f"did you mean {elsewhere[0]!r},"
            cure = f"{is_other} an option of {_named(owners[elsewhere[0]])}"
        else:
            cure = f"the options are {', '.join(known)}"
        raise ArgumentTypeError(f"{function.__name__}: unexpected option {name!r}; {cure}")


def _options_of(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.default is not each.empty]


def _named(owners: list[str]) -> str:
    return _RECORDERS if _RECORDERS in owners else ", ".join(owners)


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions and classes that take options. Their import takes time, which an error can afford."""
    yield _RECORDERS, RecordOptions
    package = importlib.import_module("vecrollout")
    for name in package.__all__:
        public = getattr(package, name)
        if callable(public) and not is_dataclass(public):  # data has fields
            yield name, public
