"""pyarrow and xxhash, or an error that says how to get them."""

from __future__ import annotations

import numpy as np

from vecrollout.errors import MissingDependencyError

try:
    import pyarrow as pa
    import xxhash
    from pyarrow import ipc
except ImportError as error:
    raise MissingDependencyError(
        f"traces on disk need pyarrow and xxhash ({error}); install them with: pip install 'vecrollout[traces]'"
    ) from error

__all__ = ["ArrowErrors", "checksum", "ipc", "pa", "warm_up"]

ArrowErrors = (
    pa.ArrowCapacityError,
    pa.ArrowNotImplementedError,
    pa.lib.ArrowSerializationError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    RecursionError,
)
"""What reading altered bytes can raise, in pyarrow and in what is made of its answers.

A lack of memory (`pa.ArrowMemoryError`) is not among them, because it rarely has to do with the bytes.
"""


def warm_up() -> None:
    """Have pyarrow import what it imports with the first array (pandas, where there is one).

    Late imports fail when the interpreter is about to end, which is when a writer may have to write its last batch.
    """
    pa.array(np.zeros(1))


def checksum(data: object) -> str:
    """The xxh3_64 of some bytes, 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(data)  # type: ignore[arg-type]  # anything with a buffer
