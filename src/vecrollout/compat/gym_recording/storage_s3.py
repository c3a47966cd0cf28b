"""`gym_recording.storage_s3`: copy recordings to S3 and compatible stores, and back."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from vecrollout.errors import OptionError
from vecrollout.interop.gym_recording.directory import local_directory
from vecrollout.storage.files.names import new_writer_name
from vecrollout.storage.files.objects import download, upload

__all__ = ["download_recording", "upload_recording"]


def upload_recording(directory: str | os.PathLike[str], env_name: str | None, bucket: str) -> str:
    """Copy a recording's files, in either format, to S3.

    Credentials, region and endpoint come from AWS's environment variables (`AWS_ENDPOINT_URL` for other stores than
    Amazon's) and configuration files.

    Args:
        directory: The recording's directory. Close its writers first. Folders in it are not copied.
        env_name: Name of the environment. It becomes a part of the URL.
        bucket: Name of the bucket, or a URL with pyarrow's options: `s3://bucket?endpoint_override=host:port`.

    Returns:
        A unique URL for `download_recording`.

    Raises:
        OptionError: If `bucket` is no bucket, `env_name` no name, or `directory` a URL.
        DamagedTraceError: If the directory does not exist, or is empty.
        OSError: If a file cannot be read.
        StoreError: If the store fails.

    Source:
        `gym_recording.storage_s3.upload_recording` (OpenAI, gym-recording), which needs boto3.
    """
    given = _split(bucket, default="s3://")
    # An environment without a spec has no name.
    if env_name is None or not all(part.strip(".") for part in env_name.split("/")):
        raise OptionError(f"env_name: expected a name such as 'CartPole-v1' or 'ALE/Pong-v5', got {env_name!r}")
    path = "/".join([given.path.rstrip("/"), "recording", quote(env_name), new_writer_name()])
    url = urlunsplit(given._replace(path=path))
    upload(local_directory(directory), url)
    return url


def download_recording(s3url: str) -> Path:
    """Copy a recording from S3 into a directory below the system's folder for temporary files.

    A recording is downloaded once. Several downloads may run at the same time. The directory appears when it is
    complete.

    Args:
        s3url: URL of a recording, such as `upload_recording` returns.

    Returns:
        The directory.

    Raises:
        OptionError: If `s3url` is no such URL.
        DamagedTraceError: If the recording does not exist, or has a file whose name leads out of the directory.
        OSError: If the recording cannot be written, or the folder belongs to another user.
        StoreError: If the store fails.

    Source:
        `gym_recording.storage_s3.download_recording` (OpenAI, gym-recording). It confuses recordings of the same name
        in two buckets.
    """
    name = unquote(_split(s3url).path).strip("/")
    if not name:
        raise OptionError(f"s3url: expected the URL of a recording, 's3://bucket/path', got {s3url!r}")
    readable = re.sub(r"[^\w.-]", "_", name.rpartition("/")[2])[-100:]
    downloads = _downloads()
    directory = downloads / f"{readable}-{hashlib.sha256(s3url.encode()).hexdigest()[:16]}"
    if directory.is_dir():
        return directory
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=downloads))
    try:
        download(s3url, partial)
        try:
            partial.rename(directory)
        except OSError:
            # Another download was faster.
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def _split(url: object, default: str = "") -> SplitResult:
    text = url if isinstance(url, str) else ""
    parts = urlsplit(text if "://" in text else default + text)
    if parts.scheme != "s3" or not parts.netloc:
        raise OptionError(f"expected a URL such as 's3://bucket/path', got {url!r}")
    return parts


def _downloads() -> Path:
    """The folder of all downloads; only this user can write to it."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"vecrollout-recordings-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if hasattr(os, "getuid") and (folder.is_symlink() or state.st_uid != user or state.st_mode & 0o022):
        raise PermissionError(f"{folder}: expected a folder that only this user can write to; remove it")
    return folder
