"""Arrays as columns of Parquet files, typed for Hugging Face's `datasets`, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError, DtypeError, MissingDependencyError, ShapeError

_KINDS = "biuf"
_MOST_DIMENSIONS = 5


def pyarrow_modules() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError(f"Parquet needs pyarrow ({error}): pip install 'vecrollout[interop]'") from error
    return pyarrow, parquet


def check_column(name: str, array: Array) -> None:
    """Refuse what `datasets` has no feature for."""
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
        raise DtypeError(f"{name}: expected real numbers of up to 64 bits, got {array.dtype}")
    if 0 in array.shape[1:] or array.ndim > _MOST_DIMENSIONS + 1:
        raise ShapeError(
            f"{name}: expected rows of up to {_MOST_DIMENSIONS} dimensions with elements, got {array.shape[1:]}"
        )


def arrow_column(array: Array, missing: Array | None = None) -> Any:
    """An array with a row an element: numbers, lists (of a fixed size if none is missing), or nested lists."""
    pa, _ = pyarrow_modules()
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    if array.ndim == 1:
        return pa.array(native, mask=missing)
    column = pa.array(native.reshape(-1))
    nulls = None if missing is None else pa.array(missing)
    # pyarrow before 26 writes missing lists of a fixed size, but cannot read them.
    if array.ndim == 2 and nulls is None:
        return pa.FixedSizeListArray.from_arrays(column, array.shape[1])
    for axis in range(array.ndim - 1, 0, -1):
        rows = int(np.prod(array.shape[:axis], dtype=np.int64))
        offsets = np.arange(rows + 1, dtype=np.int64) * array.shape[axis]
        if offsets[-1] > np.iinfo(np.int32).max:
            raise ShapeError(f"expected fewer than 2**31 numbers in one trajectory's array, got {offsets[-1]}")
        mask = nulls if axis == 1 else None
        column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), column, mask=mask)
    return column


def numpy_column(name: str, column: Any, shape: tuple[int, ...] | None = None) -> Array:
    """The array that a column of a table holds: the inverse of `arrow_column`; all rows have the first one's shape."""
    pa, _ = pyarrow_modules()
    try:
        found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        sizes = [len(found)]
        while True:
            # An extension type of `datasets`, where that package is loaded.
            found = getattr(found, "storage", found)
            if found.null_count:
                raise DamagedTraceError(f"{name}: expected a value in each row, got {found.null_count} nulls")
            if not hasattr(found, "flatten") or not hasattr(found.type, "value_type"):
                break
            fixed = getattr(found.type, "list_size", None)
            sizes.append(_length_of_lists(name, found) if fixed is None else fixed)
            found = found.flatten()
        values: Array = found.to_numpy(zero_copy_only=False)
        if values.dtype.kind not in _KINDS:
            raise DamagedTraceError(f"{name}: expected numbers, got {found.type}")
        return values.reshape(sizes if shape is None else (sizes[0], *shape))
    except (pa.ArrowException, ValueError, TypeError, NotImplementedError, AttributeError) as error:
        if isinstance(error, DamagedTraceError):
            raise
        raise DamagedTraceError(f"{name}: expected rows of shape {shape}: {error}") from error


def _length_of_lists(name: str, lists: Any) -> int:
    """The length that all lists have."""
    lengths = np.diff(lists.offsets.to_numpy())
    length = int(lengths[0]) if len(lengths) else 0
    if (lengths != length).any():
        raise DamagedTraceError(f"{name}: expected lists of one length, got {lengths.min()} to {lengths.max()}")
    return length


def image_column(encoded: Iterable[bytes]) -> Any:
    """Encoded images, as the feature `Image` of `datasets` has them."""
    pa, _ = pyarrow_modules()
    blobs = pa.array(list(encoded), pa.binary())
    return pa.StructArray.from_arrays([blobs, pa.nulls(len(blobs), pa.string())], ["bytes", "path"])


def repeating_columns(schema: Any) -> list[str]:
    """Parquet's names of the columns whose values repeat: a dictionary of floats or images takes time and space."""
    pa, _ = pyarrow_modules()
    names = []
    for column in schema:
        name, kind = column.name, column.type
        while hasattr(kind, "value_type"):
            name, kind = f"{name}.list.element", kind.value_type
        if not (pa.types.is_floating(kind) or pa.types.is_struct(kind) or pa.types.is_binary(kind)):
            names.append(name)
    return names


def value_feature(dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The feature of `datasets` for a column, as JSON."""
    name = dtype.newbyteorder("=").name
    if len(shape) > 1:
        return {"shape": list(shape), "dtype": name, "_type": f"Array{len(shape)}D"}
    value = {"dtype": name, "_type": "Value"}
    return {"feature": value, "length": shape[0], "_type": "Sequence"} if shape else value


def image_feature() -> dict[str, Any]:
    """The feature of `datasets` for images, as JSON."""
    return {"_type": "Image"}


def huggingface_metadata(features: Mapping[str, Any]) -> dict[str, Any]:
    """What the metadata of a schema says to `datasets`."""
    return {"info": {"features": dict(features)}}
