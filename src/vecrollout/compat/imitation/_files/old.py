"""Trajectories in the files of imitation before 1.0: `.npz` files, and pickled lists.

Nothing that a file names is imported or called. NumPy's arrays and imitation's classes are restored from their parts.
"""

from __future__ import annotations

import ast
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.compat.imitation._classes import DictObs, Trajectory, trajectory_of
from vecrollout.compat.imitation._files import numpy_state
from vecrollout.compat.imitation._files.pickled import Call, Name, described
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
    except (*_ERRORS, zipfile.BadZipFile, zlib.error) as error:
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
    return _Restoration().of(described(content))


class _Restoration:
    """Makes the objects that a pickle describes."""

    def __init__(self) -> None:
        # By identity: a pickle may refer to one object again and again.
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if not isinstance(value, list | dict | tuple | set | frozenset | Call | Name):
            return value
        if id(value) not in self._made:
            self._made[id(value)] = self._new(value)
        return self._made[id(value)]

    def _new(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.of(key): self.of(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(map(self.of, value))
        if isinstance(value, Name):
            raise _refused(value.name)
        if value.name == "numpy.dtype":
            return numpy_state.dtype_of(value.args[0], self.of(value.state))
        if value.name in numpy_state.RECONSTRUCT:
            return numpy_state.array_of(*self.of(value.state)[1:5])
        args = self.of(value.args)
        if value.name in numpy_state.SCALAR:
            return numpy_state.scalar_of(*args)
        if value.name in numpy_state.FROM_BUFFER:
            data, dtype, shape, order = args
            return numpy_state.array_of(shape, dtype, order == "F", data)
        if value.name in _PLAIN:
            return _PLAIN[value.name](*args)
        module, _, name = value.name.rpartition(".")
        if module not in _MODULES:
            raise _refused(value.name)
        return self._instance(name, value.state)

    def _instance(self, name: str, state: dict[str, Any]) -> Any:
        """An instance of a class of imitation, or of the class of the same name here."""
        if name == "DictObs":
            return DictObs(self.of(state["_d"]))
        if name not in ("Trajectory", "TrajectoryWithRew"):
            raise _refused(name)
        # Episode: the identity that our trajectories have.
        fields = {key: self.of(item) for key, item in state.items() if key != "episode"}
        return trajectory_of(**{"terminal": True, **fields})


# What pickle calls for plain data that old protocols have no operation for.
_PLAIN: dict[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.complex": complex,
    "_codecs.encode": lambda text, encoding: bytes(text, "latin1"),
}

# The classes of this package too, for programs that pickle what they import from `types`.
_MODULES = {
    "imitation.data.types",
    "vecrollout.compat.imitation._joined",
    "vecrollout.data.trajectory",
    "vecrollout.data.trees",
}


def _refused(name: str) -> ValueError:
    return ValueError(
        f"it refers to {name}, which is not loaded, as that could run code; load files that you trust with imitation "
        "itself, and pass the trajectories to vecrollout.interop.imitation.from_imitation"
    )
