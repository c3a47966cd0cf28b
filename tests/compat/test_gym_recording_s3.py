"""Recordings to an object store and back: a server on loopback that speaks S3."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai_recordings import of_space, record, steps_of

from s3_server import S3Server
from vecrollout import TraceWriter
from vecrollout.compat.gym_recording.playback import scan_recorded_traces
from vecrollout.compat.gym_recording.storage_s3 import download_recording, upload_recording
from vecrollout.errors import DamagedTraceError, OptionError, StoreError


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to a folder of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def put(store: S3Server, key: str, content: bytes = b"x") -> None:
    store.request_at("PUT", f"{store.bucket}/{key}", content)


def keys(store: S3Server, prefix: str) -> list[str]:
    found = re.findall(r"<Key>([^<]*)</Key>", store.request("GET").decode())
    return [key for key in map(unescape, found) if key.startswith(prefix)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """In both formats, with what does not belong to it."""
    directory = tmp_path / "recording"
    (directory / "folder").mkdir(parents=True)
    (directory / ".hidden.tmp").touch()
    record(directory, [steps_of("image", steps) for steps in (1, 2, 3)])
    with TraceWriter(directory) as traces:
        traces.append(of_space("dict", 4))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.name[0] != "."}


@pytest.mark.parametrize("env_name", ["CartPole-v1", "ALE/Pong-v5", "package:Envs/Ünï code-v0"])
def test_there_and_back(env_name: str, recording: Path, store: S3Server) -> None:
    url = upload_recording(recording, env_name, store.bucket)
    assert urlsplit(url)[:2] == ("s3", store.bucket)
    assert len(keys(store, f"recording/{env_name}/")) == len(contents(recording)) >= 7
    directory = download_recording(url)
    assert contents(directory) == contents(recording)
    assert directory.is_relative_to(tempfile.gettempdir())
    steps = []
    scan_recorded_traces(directory, lambda obs, acts, rews: steps.append(len(rews)))
    assert steps == [1, 2, 3, 4]


def test_the_endpoint_may_be_in_the_url(recording: Path, store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"endpoint_override={store.endpoint.removeprefix('http://').replace(':', '%3A')}&scheme=http"
    url = upload_recording(recording, "Env-v0", f"s3://{store.bucket}/some/prefix?{options}")
    assert url.endswith(f"?{options}")
    assert len(keys(store, "some/prefix/recording/Env-v0/")) == len(contents(recording))
    assert contents(download_recording(url)) == contents(recording)


def test_uploads_have_urls_of_their_own(recording: Path, store: S3Server) -> None:
    first, second = (upload_recording(recording, "Env-v0", store.bucket) for _ in range(2))
    assert first != second
    assert download_recording(first) != download_recording(second)


def test_what_was_downloaded_is_not_downloaded_again(recording: Path, store: S3Server) -> None:
    url = upload_recording(recording, "Env-v0", store.bucket)
    directory = download_recording(url)
    for key in keys(store, urlsplit(url).path[1:]):
        store.request_at("DELETE", f"{store.bucket}/{key}")
    assert download_recording(url) == directory
    assert contents(directory) == contents(recording)


def test_downloads_at_once(recording: Path, store: S3Server) -> None:
    url = upload_recording(recording, "Env-v0", store.bucket)
    with ThreadPoolExecutor(8) as pool:
        (directory,) = set(pool.map(download_recording, [url] * 8))
    assert contents(directory) == contents(recording)
    assert list(directory.parent.iterdir()) == [directory]


def test_the_same_name_in_two_buckets(store: S3Server) -> None:
    ours = store.bucket
    put(store, "same/name/a", b"ours")
    store.new_bucket()
    store.request("PUT")
    put(store, "same/name/a", b"theirs")
    assert contents(download_recording(f"s3://{ours}/same/name")) == {"a": b"ours"}
    assert contents(download_recording(f"s3://{store.bucket}/same/name/")) == {"a": b"theirs"}


@pytest.mark.parametrize("name", ["../../outside", "..", "sub/file", "/double", "./file", "back\\slash", "c:drive"])
def test_keys_that_lead_out(name: str, store: S3Server, tmp_path: Path) -> None:
    prefix = f"evil/{name.encode().hex()}"
    put(store, f"{prefix}/good")
    put(store, f"{prefix}/{name}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedTraceError, match="names of files"):
        download_recording(f"s3://{store.bucket}/{prefix}")
    left = set(tmp_path.rglob("*")) - set(before)
    assert [each.name for each in left if not each.name.startswith("vecrollout-recordings-")] == []


def test_nothing_there(store: S3Server) -> None:
    with pytest.raises(DamagedTraceError, match="got nothing"):
        download_recording(f"s3://{store.bucket}/missing")
    with pytest.raises(StoreError, match="no-such-bucket"):
        download_recording("s3://no-such-bucket/missing")
    (folder,) = Path(tempfile.gettempdir()).iterdir()
    assert list(folder.iterdir()) == []


def test_an_upload_that_fails(recording: Path, store: S3Server) -> None:
    with pytest.raises(StoreError, match="no-such-bucket"):
        upload_recording(recording, "Env-v0", "no-such-bucket")
    with pytest.raises(DamagedTraceError, match="missing"):
        upload_recording(recording / "missing", "Env-v0", store.bucket)
    with pytest.raises(OptionError, match="local"):
        upload_recording(store.url, "Env-v0", store.bucket)


def test_an_upload_of_nothing(tmp_path: Path, store: S3Server) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedTraceError, match="got none"):
        upload_recording(tmp_path / "empty", "Env-v0", store.bucket)


@pytest.mark.parametrize("bucket", ["", "/traces", "gs://traces", "s3://", "s3://traces?nonsense=1", None])
def test_no_bucket(bucket: Any, recording: Path, store: S3Server) -> None:
    with pytest.raises(OptionError, match="URL"):
        upload_recording(recording, "Env-v0", bucket)


@pytest.mark.parametrize("env_name", ["", "..", "a/../b", "/a", "a//b", None])
def test_no_name_of_an_environment(env_name: str, recording: Path, store: S3Server) -> None:
    with pytest.raises(OptionError, match="env_name"):
        upload_recording(recording, env_name, store.bucket)


@pytest.mark.parametrize(
    "url", ["", "traces/path", "http://traces/path", "s3://traces", "s3://traces/", "s3:///path", None]
)
def test_no_url_of_a_recording(url: Any, store: S3Server) -> None:
    with pytest.raises(OptionError, match="s3://bucket/path"):
        download_recording(url)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no modes")
def test_a_folder_that_others_can_write_to(store: S3Server, tmp_path: Path) -> None:
    """Whoever else can put files where downloads are looked for decides what is read."""
    put(store, "some/name/a")
    directory = download_recording(f"s3://{store.bucket}/some/name")
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    directory.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="only this user"):
        download_recording(f"s3://{store.bucket}/some/name")
    directory.parent.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    directory.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="only this user"):
        download_recording(f"s3://{store.bucket}/some/name")
