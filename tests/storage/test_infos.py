"""Infos on disk: which of them are typed columns, and what cannot be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from traces import of_space, write

from vecrollout import TraceWriter, open_traces, verify_traces
from vecrollout.errors import DtypeError
from vecrollout.storage.arrays import sparse_text
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


def test_an_array_with_a_mask_is_not_kept_without_it(tmp_path: Path) -> None:
    masked = np.ma.MaskedArray([1.0, 2.0], [True, False])
    infos: Any = [{"at": masked, "keep": 1}, {"at": np.zeros(2), "in": [np.ma.masked]}]
    with pytest.warns(UserWarning, match="'at', 'in'"), TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 2, infos=infos))
    assert writer.dropped_infos == {"at": 1, "in": 1}
    (read,) = open_traces(tmp_path)
    assert_same(list(read.infos), [{"keep": 1}, {"at": np.zeros(2)}])  # type: ignore[arg-type]


def test_more_text_than_a_column_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is 2 GB; here a smaller one has its place."""
    texts = ["[1]" * 10] * 3
    monkeypatch.setattr("vecrollout.storage.arrays._MAX_TEXT_BYTES", 90)
    assert sparse_text(4, [0, 2, 3], texts).to_pylist() == [texts[0], None, *texts[1:]]
    monkeypatch.setattr("vecrollout.storage.arrays._MAX_TEXT_BYTES", 89)
    with pytest.raises(DtypeError, match=r"infos: expected at most 89 bytes .* got 90; .*record_infos"):
        sparse_text(4, [0, 2, 3], texts)
