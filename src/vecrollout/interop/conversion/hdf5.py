"""h5py, loaded late, and what all formats in HDF5 do with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.data.fields import as_rewards
from vecrollout.data.trajectory import Episode, TrajectoryWithRew, ended_by
from vecrollout.errors import DamagedTraceError, DtypeError, MissingDependencyError

# Smaller arrays lie in their own header, which saves a seek. HDF5's limit is 64 KiB.
_COMPACT_BYTES = 8 << 10


def h5py_module() -> Any:
    """The module h5py."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"HDF5 needs h5py ({error}): pip install 'vecrollout[interop]'") from error
    return h5py


def opened(path: Path) -> Any:
    """An HDF5 file that is open for reading."""
    h5py = h5py_module()
    # Not a pipe or a device, which would wait or read for ever.
    if not path.is_file():
        raise DamagedTraceError(f"{path}: expected an HDF5 file, there is none")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DamagedTraceError(f"{path}: expected an HDF5 file: {error}") from error


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Tell what h5py finds wrong with a file as an error of ours."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, TypeError, AttributeError, OverflowError) as error:
        raise DamagedTraceError(f"{where}: expected the layout of its format, got another: {error!r}") from error


def episode_of(
    where: str, obs: Any, acts: Any, rews: Any, infos: Any, *, terminated: bool, truncated: bool, **identity: Any
) -> TrajectoryWithRew:
    """An episode of a file, which is damaged if its arrays do not fit together."""
    try:
        return TrajectoryWithRew(
            obs,
            acts,
            infos,
            terminated or truncated,
            terminated=terminated,
            truncated=truncated,
            rews=as_rewards(rews),
            episode=Episode(ended_by=ended_by(terminated, truncated), **identity),
        )
    except (TypeError, ValueError) as error:
        raise DamagedTraceError(f"{where}: {error}") from error


def leaves_in(group: Any, root: str) -> dict[str, Any]:
    """The data sets below a name in a group, by name, unread."""
    found = group[root]
    if isinstance(found, h5py_module().Dataset):
        return {root: found}
    leaves: dict[str, Any] = {}
    for key in found:
        leaves |= {f"{root}/{name}": each for name, each in leaves_in(found, key).items()}
    return leaves


class EpisodeWriter:
    """An HDF5 file in the making, of many small groups: by h5py's low-level interface, which takes a third of the time.

    Args:
        path: Where to write it.
    """

    def __init__(self, path: Path) -> None:
        h5py = self._h5py = h5py_module()
        # The oldest format whose groups are small; h5py 3.0 and newer read it.
        self.file = h5py.File(path, "w", libver=("v110", "v110"))
        """The file, for attributes and large arrays."""
        self._all = h5py.h5s.ALL
        self._scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        self._integer = h5py.h5t.py_create(np.dtype(np.int64))
        self._spaces: dict[tuple[int, ...], Any] = {}
        self._types: dict[np.dtype[Any], Any] = {}
        self._links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        self._links.set_create_intermediate_group(True)
        self._links.set_char_encoding(h5py.h5t.CSET_UTF8)
        self._layouts = [self._layout(h5py.h5d.CONTIGUOUS), self._layout(h5py.h5d.COMPACT)]

    def group(self, name: str, parent: Any = None) -> Any:
        """A new group, for the other methods; in the file itself where there is no parent."""
        return self._h5py.h5g.create(parent or self.file.id, name.encode(), self._links)

    @property
    def root(self) -> Any:
        """The file's own group."""
        return self._h5py.h5g.open(self.file.id, b"/")

    def write(self, group: Any, name: str, array: Array) -> Any:
        """Add an array to a group, and return it, for `link`. Slashes in the name make groups."""
        if array.dtype.kind in "OU":
            return self._write_texts(group, name, array)
        kind = self._types.get(array.dtype)
        if kind is None:
            kind = self._types[array.dtype] = self._type(name, array.dtype)
        space = self._spaces.get(array.shape)
        if space is None:
            space = self._h5py.h5s.create_simple(array.shape) if array.shape else self._scalar
            self._spaces[array.shape] = space
        layout = self._layouts[0 < array.nbytes <= _COMPACT_BYTES]
        data = self._h5py.h5d.create(group, name.encode(), kind, space, layout, self._links)
        if array.size:
            data.write(self._all, self._all, np.asarray(array, order="C"), kind)
        return data

    def link(self, group: Any, name: str, target: Any) -> None:
        """Add an array or a group that another group has to this one too."""
        self._h5py.h5o.link(target, group, name.encode(), self._links)

    def number(self, group: Any, name: str, number: int) -> None:
        """Add an integer to a group's attributes."""
        attribute = self._h5py.h5a.create(group, name.encode(), self._integer, self._scalar)
        attribute.write(np.array(number, np.int64), self._integer)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _layout(self, layout: int) -> Any:
        h5py = self._h5py
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(layout)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        return properties

    def _type(self, name: str, dtype: np.dtype[Any]) -> Any:
        try:
            return self._h5py.h5t.py_create(dtype, logical=True)
        except TypeError as error:
            raise DtypeError(f"{name}: expected a dtype that HDF5 has, got {dtype}") from error

    def _write_texts(self, group: Any, name: str, array: Array) -> Any:
        if not all(isinstance(each, str) for each in array.flat):
            raise DtypeError(f"{name}: expected arrays of numbers or text, as HDF5 has nothing else, got objects")
        if any("\0" in each for each in array.flat):
            raise DtypeError(f"{name}: expected text without null characters, as HDF5 ends text at them")
        texts = self._h5py.string_dtype("utf-8")
        return self._h5py.Group(group).create_dataset(name, array.shape, texts, data=array.astype(object)).id
