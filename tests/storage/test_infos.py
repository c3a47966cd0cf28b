"""Infos on disk: which of them are typed columns, and what cannot be kept."""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from traces import of_space, write

from vecrollout import TraceWriter, Trajectory, open_traces, verify_traces
from vecrollout.errors import DtypeError
from vecrollout.storage.codec.arrays import sparse_text
from vecrollout.testing import assert_same


def typed(path: Path) -> dict[str, str]:
    """Columns of infos in a shard, and their types."""
    with pa.memory_map(str(path)) as file:
        return {each.name: str(each.type) for each in pa.ipc.open_file(file).schema if each.name.startswith("info.")}


def test_keys_that_come_later_gain_columns_in_the_next_shard(tmp_path: Path) -> None:
    """Columns of earlier shards stay as they were, also where the key's values are others, or none, by then."""
    infos: list[Any] = [
        None,
        [{"lives": 3, "pos": {"x": 0.5}}] * 32,
        [{"too_few": 1}] * 31,
        [{"pos": {"x": 1.5, "y": np.float32(2)}, "lives": "many", "new": True}, {}, {"odd": [1], "pos.y": 3}] * 11,
        [{"pos": 1, "new": {"deep": 2}}] * 40,
        [{}] * 40,
    ]
    written = [of_space("box", len(each or "1"), number, infos=each) for number, each in enumerate(infos)]
    # Metadata alone is larger than a shard may be: each trajectory has a shard of its own.
    write(tmp_path, written, flush=True, max_shard_bytes=4096, metadata={"long": "text" * 1024})
    shards = sorted(tmp_path.glob("*.arrow"))
    first = {"info.lives": "int64", "info.pos.x": "double"}
    second = {**first, "info.pos.y": "float", "info.new": "bool"}
    third = {**second, "info.pos": "int64", "info.new.deep": "int64"}
    assert [typed(shard) for shard in shards] == [{}, first, first, second, third, third]
    for read, expected in zip(open_traces(tmp_path), written, strict=True):
        assert (read.infos is None) == (expected.infos is None)
        if read.infos is not None and expected.infos is not None:
            assert_same(list(read.infos), list(expected.infos))
    assert verify_traces(tmp_path).ok


def test_infos_that_are_other_mappings_are_kept_as_dicts(tmp_path: Path) -> None:
    infos: Any = [OrderedDict(at=1), {"at": 2}, MappingProxyType({"at": 3})]
    with TraceWriter(tmp_path) as writer:  # without a warning
        writer.append(of_space("box", 3, infos=infos))
    assert writer.dropped_infos == {}
    (read,) = open_traces(tmp_path)
    assert_same(list(read.infos), [{"at": 1}, {"at": 2}, {"at": 3}])  # type: ignore[arg-type]


def test_an_array_with_a_mask_is_not_kept_without_it(tmp_path: Path) -> None:
    masked = np.ma.MaskedArray([1.0, 2.0], [True, False])
    infos: Any = [{"at": masked, "keep": 1}, {"at": np.zeros(2), "in": [np.ma.masked]}]
    with pytest.warns(UserWarning, match="'at', 'in'"), TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 2, infos=infos))
    assert writer.dropped_infos == {"at": 1, "in": 1}
    (read,) = open_traces(tmp_path)
    assert_same(list(read.infos), [{"keep": 1}, {"at": np.zeros(2)}])  # type: ignore[arg-type]


def test_text_of_numpy_keeps_zeros_at_its_end(tmp_path: Path) -> None:
    texts: list[Any] = [np.bytes_(b"a\0"), np.bytes_(b""), np.str_("ab\0\0"), np.str_(""), np.str_("\ud800\0")]
    write(tmp_path, [of_space("box", 1, infos=[{"texts": texts}])])
    (read,) = open_traces(tmp_path)
    assert read.infos is not None
    found = read.infos[0]["texts"]
    assert list(map(type, found)) == list(map(type, texts))
    assert [each.encode("utf-8", "surrogatepass") if isinstance(each, str) else bytes(each) for each in found] == [
        *(b"a\0", b"", b"ab\0\0", b"", b"\xed\xa0\x80\0")
    ]


@pytest.mark.parametrize("bits", [0xFFF8000000000000, 0x7FF8000000000ABC, 0x7FF8000000000000])
def test_a_nan_keeps_its_bits(bits: int, tmp_path: Path) -> None:
    """In a typed column, and in JSON. The processor's own has a sign: 0.0 / 0.0 of NumPy is one of the first kind."""
    (nan,) = struct.unpack("<d", struct.pack("<Q", bits))
    infos = [{"column": nan, "json": [nan], "single": np.float32(nan)}]
    write(tmp_path, [of_space("box", 1, infos=infos)])
    (read,) = open_traces(tmp_path)
    assert read.infos is not None
    (found,) = read.infos
    assert [struct.pack("<d", each) for each in (found["column"], *found["json"])] == [struct.pack("<Q", bits)] * 2
    assert_same(found["single"], infos[0]["single"])


def test_arrays_without_any_bytes_are_not_kept(tmp_path: Path) -> None:
    infos: Any = [{"void": np.zeros(2, "V0"), "scalar": [np.zeros(1, "V0")[0]], "keep": np.zeros((2, 0))}]
    with pytest.warns(UserWarning, match="'void', 'scalar'"), TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 1, infos=infos))
    assert writer.dropped_infos == {"void": 1, "scalar": 1}
    (read,) = open_traces(tmp_path)
    assert_same(list(read.infos), [{"keep": np.zeros((2, 0))}])  # type: ignore[arg-type]


def test_dtypes_that_other_packages_add_are_not_taken_for_bytes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.ones(2, ml_dtypes.bfloat16)
    refused = pytest.raises(DtypeError, match=r"obs: expected a dtype that can be stored, got bfloat16")
    with TraceWriter(tmp_path / "other") as writer, refused:
        writer.append(Trajectory(numbers, np.zeros(1), None, True))
    with pytest.warns(UserWarning, match="'array', 'scalar'"), TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 1, infos=[{"array": numbers, "scalar": numbers[0], "keep": 1}]))
    (read,) = open_traces(tmp_path)
    assert_same(list(read.infos), [{"keep": 1}])  # type: ignore[arg-type]


def test_more_text_than_a_column_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is 2 GB; here a smaller one has its place."""
    texts = ["[1]" * 10] * 3
    monkeypatch.setattr("vecrollout.storage.codec.arrays._MAX_TEXT_BYTES", 90)
    assert sparse_text(4, [0, 2, 3], texts).to_pylist() == [texts[0], None, *texts[1:]]
    monkeypatch.setattr("vecrollout.storage.codec.arrays._MAX_TEXT_BYTES", 89)
    with pytest.raises(DtypeError, match=r"infos: expected at most 89 bytes .* got 90; .*record_infos"):
        sparse_text(4, [0, 2, 3], texts)
