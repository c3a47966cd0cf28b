"""pyarrow and xxhash, or an error that says how to get them."""

from __future__ import annotations

import struct

import numpy as np

from vecrollout.errors import DamagedTraceError, MissingDependencyError, TraceVersionError

try:
    import pyarrow as pa
    import xxhash
    from pyarrow import ipc
except ImportError as error:
    raise MissingDependencyError(
        f"traces on disk need pyarrow and xxhash ({error}); install them with: pip install 'vecrollout[traces]'"
    ) from error

__all__ = ["Parsing", "checksum", "ipc", "pa", "warm_up"]

# What reading altered bytes can raise, in pyarrow and in what is made of its answers.
_ERRORS = (
    pa.ArrowException,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    RecursionError,
    struct.error,
)


class Parsing:
    """What altered bytes raise within becomes a `DamagedTraceError`. A lack of memory and a newer format do not."""

    # Not of `contextlib`: some run once a trajectory.
    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # pyarrow's own lack of memory is an `ArrowException`, too.
        if isinstance(error, _ERRORS) and not isinstance(error, MemoryError | TraceVersionError):
            raise DamagedTraceError(f"{self._what}: {error}") from error


def warm_up() -> None:
    """Have pyarrow import what it imports with the first array (pandas, where there is one).

    Late imports fail when the interpreter is about to end, which is when a writer may have to write its last batch.
    """
    pa.array(np.zeros(1))


def checksum(data: object) -> str:
    """The xxh3_64 of some bytes, 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(data)  # type: ignore[arg-type]  # anything with a buffer
