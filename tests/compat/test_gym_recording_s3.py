"""Recordings to an object store and back: a server on loopback that speaks S3."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer
from openai_recordings import of_space, record, steps_of

from vecrollout import TraceWriter
from vecrollout.compat.gym_recording.playback import scan_recorded_traces
from vecrollout.compat.gym_recording.storage_s3 import download_recording, upload_recording
from vecrollout.errors import DamagedTraceError, OptionError


class Store:
    """A server and a bucket in it, with another client than ours."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.address = f"{host}:{port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{self.address}",
            region_name="us-east-1",
            aws_access_key_id="someone",
            aws_secret_access_key="something",
        )
        self.client.create_bucket(Bucket="traces")

    def put(self, key: str, content: bytes = b"x") -> None:
        self.client.put_object(Bucket="traces", Key=key, Body=content)

    def keys(self, prefix: str) -> list[str]:
        listed = self.client.list_objects_v2(Bucket="traces", Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", ())]

    def stop(self) -> None:
        self.client.close()
        self._server.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    store = Store()
    yield store
    store.stop()


@pytest.fixture
def store(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The server, found by the environment; downloads go to a folder of the test's own."""
    variables = {
        "AWS_ENDPOINT_URL": f"http://{server.address}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return server


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
def test_there_and_back(env_name: str, recording: Path, store: Store) -> None:
    url = upload_recording(recording, env_name, "traces")
    assert urlsplit(url)[:2] == ("s3", "traces")
    assert len(store.keys(f"recording/{env_name}/")) == len(contents(recording)) > 7
    directory = download_recording(url)
    assert contents(directory) == contents(recording)
    assert directory.is_relative_to(tempfile.gettempdir())
    steps = []
    scan_recorded_traces(directory, lambda obs, acts, rews: steps.append(len(rews)))
    assert steps == [1, 2, 3, 4]


def test_the_endpoint_may_be_in_the_url(recording: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"endpoint_override={store.address.replace(':', '%3A')}&scheme=http"
    url = upload_recording(recording, "Env-v0", f"s3://traces/some/prefix?{options}")
    assert url.endswith(f"?{options}")
    assert len(store.keys("some/prefix/recording/Env-v0/")) == len(contents(recording))
    assert contents(download_recording(url)) == contents(recording)


def test_uploads_have_urls_of_their_own(recording: Path, store: Store) -> None:
    first, second = (upload_recording(recording, "Env-v0", "traces") for _ in range(2))
    assert first != second
    assert download_recording(first) != download_recording(second)


def test_what_was_downloaded_is_not_downloaded_again(recording: Path, store: Store) -> None:
    url = upload_recording(recording, "Env-v0", "traces")
    directory = download_recording(url)
    store.client.delete_objects(
        Bucket="traces", Delete={"Objects": [{"Key": key} for key in store.keys(urlsplit(url).path[1:])]}
    )
    assert download_recording(url) == directory
    assert contents(directory) == contents(recording)


def test_downloads_at_once(recording: Path, store: Store) -> None:
    url = upload_recording(recording, "Env-v0", "traces")
    with ThreadPoolExecutor(8) as pool:
        (directory,) = set(pool.map(download_recording, [url] * 8))
    assert contents(directory) == contents(recording)
    assert list(directory.parent.iterdir()) == [directory]


def test_the_same_name_in_two_buckets(store: Store) -> None:
    store.client.create_bucket(Bucket="others")
    store.put("same/name/a", b"ours")
    store.client.put_object(Bucket="others", Key="same/name/a", Body=b"theirs")
    assert contents(download_recording("s3://traces/same/name")) == {"a": b"ours"}
    assert contents(download_recording("s3://others/same/name/")) == {"a": b"theirs"}


@pytest.mark.parametrize("name", ["../../outside", "..", "sub/file", "/double", "./file", "back\\slash", "c:drive"])
def test_keys_that_lead_out(name: str, store: Store, tmp_path: Path) -> None:
    prefix = f"evil/{name.encode().hex()}"
    store.put(f"{prefix}/good")
    store.put(f"{prefix}/{name}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedTraceError, match="names of files"):
        download_recording(f"s3://traces/{prefix}")
    left = set(tmp_path.rglob("*")) - set(before)
    assert [each.name for each in left if not each.name.startswith("vecrollout-recordings-")] == []


def test_nothing_there(store: Store) -> None:
    with pytest.raises(DamagedTraceError, match="got nothing"):
        download_recording("s3://traces/missing")
    with pytest.raises(OSError, match="bucket"):
        download_recording("s3://no-such-bucket/missing")
    (folder,) = Path(tempfile.gettempdir()).iterdir()
    assert list(folder.iterdir()) == []


def test_an_upload_that_fails(recording: Path, store: Store) -> None:
    with pytest.raises(OSError, match="bucket"):
        upload_recording(recording, "Env-v0", "no-such-bucket")
    with pytest.raises(FileNotFoundError):
        upload_recording(recording / "missing", "Env-v0", "traces")


@pytest.mark.parametrize("bucket", ["", "/traces", "gs://traces", "s3://", "s3://traces?nonsense=1"])
def test_no_bucket(bucket: str, recording: Path, store: Store) -> None:
    with pytest.raises(OptionError, match="URL"):
        upload_recording(recording, "Env-v0", bucket)


@pytest.mark.parametrize("env_name", ["", "..", "a/../b", "/a", "a//b", None])
def test_no_name_of_an_environment(env_name: str, recording: Path, store: Store) -> None:
    with pytest.raises(OptionError, match="env_name"):
        upload_recording(recording, env_name, "traces")


@pytest.mark.parametrize("url", ["", "traces/path", "http://traces/path", "s3://traces", "s3://traces/", "s3:///path"])
def test_no_url_of_a_recording(url: str, store: Store) -> None:
    with pytest.raises(OptionError, match="s3://bucket/path"):
        download_recording(url)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no modes")
def test_a_folder_that_others_can_write_to(store: Store, tmp_path: Path) -> None:
    """Whoever else can put files where downloads are looked for decides what is read."""
    store.put("some/name/a")
    directory = download_recording("s3://traces/some/name")
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    directory.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="only this user"):
        download_recording("s3://traces/some/name")
    directory.parent.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    directory.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="only this user"):
        download_recording("s3://traces/some/name")
