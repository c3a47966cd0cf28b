"""Trajectories in the files of imitation before 1.0: `.npz` files, and pickled lists.

Nothing that a file names is imported or called. NumPy's arrays and imitation's classes are restored from their parts.
"""

from __future__ import annotations

import ast
import io
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.compat.imitation._classes import DictObs, Trajectory, trajectory_of
from vecrollout.compat.imitation._files import numpy_state
from vecrollout.data.dtypes import dtype_from_json
from vecrollout.errors import DamagedTraceError

_ERRORS = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, EOFError, SyntaxError)

# As NumPy itself allows.
_MAX_HEADER_BYTES = 10_000


def read_old_file(path: str) -> list[Trajectory]:
    """The trajectories of a file.

    Raises:
        DamagedTraceError: If it is no such file, or refers to code that is not NumPy's or imitation's.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _of_npz(content) if content.startswith(b"PK") else _of_pickle(content)
    except (*_ERRORS, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedTraceError(f"{path}: expected trajectories as imitation saves them: {error}") from error


def _of_npz(content: bytes) -> list[Trajectory]:
    columns = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                columns[name.removesuffix(".npy")] = _array_in(member)
    ends = columns["indices"]
    # Each trajectory has one observation more than steps.
    parts = {"obs": np.split(columns["obs"], ends + np.arange(1, len(ends) + 1))}
    parts |= {name: np.split(columns[name], ends) for name in ("acts", "infos", "rews") if name in columns}
    terminal = columns["terminal"]
    if len(terminal) != len(ends) + 1:
        raise ValueError(f"terminal: expected {len(ends) + 1} flags, one a trajectory, got {len(terminal)}")
    return [
        trajectory_of(terminal=ended, **dict(zip(parts, fields, strict=True)))
        for ended, *fields in zip(terminal, *parts.values(), strict=True)
    ]


def _array_in(file: Any) -> Array:
    """An array in NumPy's file format."""
    version = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"expected a short header, got {length} bytes")
    header = ast.literal_eval(file.read(length).decode("latin-1"))
    dtype = dtype_from_json(header["descr"])
    if dtype.hasobject:
        objects = _unpickled(file.read())
        return objects if isinstance(objects, np.ndarray) else np.asarray(objects, dtype=object)
    return numpy_state.array_of(header["shape"], dtype, header["fortran_order"], file.read())


def _of_pickle(content: bytes) -> list[Trajectory]:
    trajectories = _unpickled(content)
    if not isinstance(trajectories, Sequence) or not all(isinstance(each, Trajectory) for each in trajectories):
        raise ValueError(f"expected a list of trajectories, got a {type(trajectories).__name__}")
    return list(trajectories)


def _unpickled(content: bytes) -> Any:
    """The value of a pickle that refers to nothing but plain data, NumPy and imitation's classes."""
    for operation, argument, _ in pickletools.genops(content):
        # The unpickler would make room for as many objects as the number says.
        if "PUT" in operation.name and int(argument or 0) > len(content):
            raise ValueError(f"expected the number of an object, got {argument}")
    return _restored(_Unpickler(io.BytesIO(content), encoding="latin1").load())


class _Stored:
    """An object in a pickle: what its function is called with, and its state."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Any:
        stored: Any = object.__new__(cls)
        stored.args, stored.state = args, None
        return stored

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Stored): ...


class _Array(_Stored): ...


class _Scalar(_Stored): ...


class _Buffer(_Stored): ...


class _DictObs(_Stored): ...


class _Trajectory(_Stored): ...


class _Episode(_Stored): ...


def _plain_instance(cls: Any, base: Any, state: Any) -> Any:
    """What old protocols of pickle make an instance with."""
    if not issubclass(cls, _Stored):
        raise ValueError("expected one of imitation's classes")
    return cls()


def _as_bytes(text: Any, encoding: Any) -> bytes:
    """What old protocols of pickle make bytes of."""
    return bytes(text, "latin1")


_KNOWN: dict[str, Callable[..., Any]] = {
    numpy_state.DTYPE: _Dtype,
    "numpy.ndarray": _Array,
    **dict.fromkeys(numpy_state.RECONSTRUCT, _Array),
    **dict.fromkeys(numpy_state.SCALAR, _Scalar),
    **dict.fromkeys(numpy_state.FROM_BUFFER, _Buffer),
    **{
        f"{module}.{name}": stored
        # The classes of this package too, for programs that pickle what they import from `types`.
        for module in ("imitation.data.types", "vecrollout.compat.imitation._joined", "vecrollout.data.trajectory")
        for name, stored in {"Trajectory": _Trajectory, "TrajectoryWithRew": _Trajectory, "DictObs": _DictObs}.items()
    },
    "vecrollout.data.trees.DictObs": _DictObs,
    "vecrollout.data.episode.Episode": _Episode,
    "collections.OrderedDict": OrderedDict,
    "copyreg._reconstructor": _plain_instance,
    "_codecs.encode": _as_bytes,
    "builtins.object": object,
    "builtins.set": set,
    "builtins.complex": complex,
}

# Old protocols of pickle have the names of Python 2.
_NEW_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Unpickler(pickle.Unpickler):  # noqa: S301  # loads only what find_class allows
    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get(f"{_NEW_NAMES.get(module, module)}.{name}")
        if found is None:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, which is not loaded, as that could run code; load files that you trust "
                "with imitation itself, and pass the trajectories to vecrollout.interop.imitation.from_imitation"
            )
        return found


def _restored(value: Any) -> Any:
    """A value with the objects in the place of what the pickle stored of them."""
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(map(_restored, value))
    if not isinstance(value, _Stored):
        return value
    args, state = _restored(value.args), _restored(value.state)
    match value:
        case _Dtype():
            return numpy_state.dtype_of(args[0], state)
        case _Array():
            return numpy_state.array_of(*state[1:5])
        case _Scalar():
            return numpy_state.scalar_of(*args)
        case _Buffer():
            data, dtype, shape, order = args
            return numpy_state.array_of(shape, dtype, order == "F", data)
        case _DictObs():
            return DictObs(state["_d"])
        case _Trajectory():
            fields = {"terminal": True, **state}
            fields.pop("episode", None)
            return trajectory_of(**fields)
        case _:
            return None
