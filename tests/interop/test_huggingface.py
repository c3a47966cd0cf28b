"""Parquet files and data sets of Hugging Face: there and back, read by others, and uploaded."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium import spaces as kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectories import alike, assert_equal, endings, episode, without_empty

from vecrollout import Trajectory, TrajectoryWithRew
from vecrollout.errors import ArgumentTypeError, DamagedTraceError, MissingDependencyError, OptionError, ShapeError
from vecrollout.testing import assert_same
from vecrollout.testing import strategies as ours

pytest.importorskip("pyarrow")

from vecrollout.interop.huggingface import from_hf, push_to_hub, to_hf, to_parquet

CAMERA = kinds.Dict({"camera": kinds.Box(0, 255, (6, 5, 3), np.uint8), "level": kinds.Discrete(4)})
SPACES = st.one_of(ours.nested_spaces().filter(without_empty), st.just(CAMERA))


@given(data=st.data())
@settings(max_examples=30)
def test_there_and_back(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, episodes = data.draw(alike(SPACES, ours.leaf_spaces().filter(without_empty)))
    path = tmp_path_factory.mktemp("parquet") / "data.parquet"
    report = to_parquet(episodes, path)
    assert (report.fragments, report.last_observations, report.both_flags, report.dtypes) == (0, 0, 0, {})
    with from_hf(path) as found:
        for each, expected in zip(found, episodes, strict=True):
            assert_equal(each, expected)
            assert each.episode.start_step == expected.episode.start_step


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_datasets_reads_it(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets = pytest.importorskip("datasets")
    flat = ours.nested_spaces().filter(without_empty)
    _, episodes = data.draw(alike(flat, ours.leaf_spaces().filter(without_empty)))
    path = tmp_path_factory.mktemp("hf")
    to_hf(episodes, path / "data")
    loaded = datasets.load_dataset(str(path / "data"), split="train", cache_dir=str(path / "cache"))
    assert len(loaded) == sum(len(each) + 1 for each in episodes)
    if episodes[0].acts.ndim == 2:
        assert loaded.features["acts"].length == episodes[0].acts.shape[1]
    for each, expected in zip(from_hf(loaded), episodes, strict=True):
        assert_equal(each, expected)


def test_without_rewards(tmp_path: Path) -> None:
    one = episode(3)
    bare = Trajectory(one.obs, one.acts, None, terminal=False)
    to_parquet([bare], tmp_path / "data.parquet")
    with from_hf(tmp_path / "data.parquet") as found:
        assert type(found[0]) is Trajectory
        assert_same(found[0].obs, one.obs)


def test_last_observations_can_be_left_out(tmp_path: Path) -> None:
    report = to_hf([episode(4), episode(2)], tmp_path / "data", final="drop")
    assert report.last_observations == 2
    with from_hf(tmp_path / "data") as found, pytest.raises(ShapeError, match="pass drop_last=True"):
        found[0]
    with from_hf(tmp_path / "data", drop_last=True) as found:
        assert_same(found[0].acts, episode(4).acts[:-1])


def test_only_what_repeats_has_a_dictionary(tmp_path: Path) -> None:
    """One of floats or of images would be thrown away when it is full."""
    from pyarrow import parquet

    images = np.random.default_rng(0).integers(0, 256, (9, 20, 30, 3), np.uint8)
    tree = {"image": images, "bytes": images[:, 0, :, 0], "speed": np.linspace(0, 1, 9)}
    one = TrajectoryWithRew(tree, np.arange(8), None, terminal=True, rews=np.arange(8.0))  # type: ignore[arg-type]
    to_parquet([one], tmp_path / "data.parquet")
    group = parquet.ParquetFile(tmp_path / "data.parquet").metadata.row_group(0)
    columns = {each.path_in_schema: each.has_dictionary_page for each in map(group.column, range(group.num_columns))}
    assert {name for name, has_dictionary in columns.items() if not has_dictionary} - {"terminated", "truncated"} == {
        *("obs/image.bytes", "obs/image.path", "obs/speed", "rews")
    }
    assert columns["obs/bytes.list.element"]


def test_pandas_reads_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    to_parquet(endings(), tmp_path / "data.parquet")
    frame = pandas.read_parquet(tmp_path / "data.parquet")
    assert len(frame) == 18
    assert frame.groupby("episode")["rews"].count().tolist() == [2, 3, 4, 5]
    assert frame["terminated"].sum() == 2


def test_the_card(tmp_path: Path) -> None:
    card = {"license": "mit", "pretty_name": "Poles: balanced", "tags": ["mine"], "description": "By hand."}
    to_hf(endings(), tmp_path / "data", card=card)
    text = (tmp_path / "data" / "README.md").read_text()
    _, metadata, body = text.split("---\n", 2)
    parsed = {
        json.loads(key): json.loads(value) for key, _, value in (x.partition(": ") for x in metadata.splitlines())
    }
    assert parsed["license"] == "mit"
    assert parsed["tags"] == ["reinforcement-learning", "vecrollout", "mine"]
    assert parsed["configs"][0]["data_files"][0]["path"] == "data/*.parquet"
    assert "# Poles: balanced\n\nBy hand.\n" in body
    assert "| episodes | 4 |" in body
    assert "| `obs` | float32[4] |" in body
    hub = pytest.importorskip("huggingface_hub")
    assert hub.DatasetCard(text).data.license == "mit"


def test_bad_cards(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match="card"):
        to_hf([episode(2)], tmp_path / "data", card="text")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="card"):
        to_hf([episode(2)], tmp_path / "data", card={"license": object()})
    assert not (tmp_path / "data").exists()


def test_damaged_files(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"episode": [0, 0], "step": [0, 1]}), path)
    with pytest.raises(DamagedTraceError, match="columns"):
        from_hf(path)
    columns = {"episode": [0, 0], "step": [0, 1], "terminated": [False, None], "truncated": [False, None]}
    ragged = {**columns, "obs": [[1.0], [1.0, 2.0]], "acts": [0, None]}
    path.unlink()
    parquet.write_table(pyarrow.table(ragged), path)
    with from_hf(path) as found, pytest.raises(DamagedTraceError, match="obs"):
        found[0]
    path.write_bytes(b"PAR1")
    with pytest.raises(DamagedTraceError):
        from_hf(path)
    with pytest.raises(DamagedTraceError, match="there is none"):
        from_hf(tmp_path / "none")
    with pytest.raises(ArgumentTypeError):
        from_hf(3)


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files needs."""

    uploaded: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.uploaded.setdefault(self.path, []).append(body)
        url = f"http://{self.headers['Host']}/datasets/me/poles"
        if "preupload" in self.path:
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            self._answer({"files": files})
        elif "commit" in self.path:
            self._answer({"commitUrl": f"{url}/commit/1", "commitOid": "1", "pullRequestUrl": None})
        else:
            self._answer({"url": url, "name": "me/poles", "id": "me/poles"})

    def _answer(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, Any]]]:
    """URL of a hub, and what was posted to it."""
    _Hub.uploaded.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", _Hub.uploaded
        server.shutdown()
        thread.join()


def test_upload(hub: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    # Older versions know hubs with https only.
    pytest.importorskip("huggingface_hub", minversion="1.0")
    to_hf(endings(), tmp_path / "data")
    url, uploaded = hub
    assert push_to_hub(tmp_path / "data", "me/poles", token="hf_none", endpoint=url).endswith("/datasets/me/poles")
    (commit,) = [body[0] for path, body in uploaded.items() if "commit" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    assert lines[0]["value"]["summary"] == "Upload trajectories"
    assert sorted(line["value"]["path"] for line in lines[1:]) == ["README.md", "data/train.parquet"]


def test_uploads_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_hf(endings(), tmp_path / "data")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match="pip install huggingface_hub"):
        push_to_hub(tmp_path / "data", "me/data")


def test_upload_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DamagedTraceError, match="there is none"):
        push_to_hub(tmp_path / "none", "me/poles")
