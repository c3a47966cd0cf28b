"""`gym_recording.storage_s3`: recordings in S3, and in stores that speak its language."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from vecrollout.data.checks import local_directory
from vecrollout.errors import OptionError
from vecrollout.storage.files.objects import download, upload
from vecrollout.storage.files.names import new_writer_name

__all__ = ["download_recording", "upload_recording"]


def upload_recording(directory: str | os.PathLike[str], env_name: str | None, bucket: str) -> str:
    """Copy a recording's files, in either format, to S3.

    Credentials, region and endpoint are found as by all of AWS's tools: by environment variables (`AWS_ENDPOINT_URL`
    for a store that is not Amazon's) and configuration files.

    Args:
        directory: The recording's directory, which nobody writes to any more; folders in it are left out.
        env_name: Name of the environment, a part of the URL.
        bucket: Name of the bucket, or a URL with options of pyarrow's: `s3://bucket?endpoint_override=host:port`.

    Returns:
        The URL for `download_recording`; no other upload has it.

    Raises:
        OptionError: If `bucket` is none, `env_name` no name, or `directory` no local one.
        DamagedTraceError: If there is no such directory, or nothing in it.
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

    A recording that was downloaded before is not downloaded again. Two downloads at once do not disturb each other; a
    directory is there whole or not at all.

    Args:
        s3url: What `upload_recording` returned, or any other URL of a recording.

    Returns:
        The directory.

    Raises:
        OptionError: If this is no such URL.
        DamagedTraceError: If there is nothing, or something whose name leads out of the directory.
        OSError: If the recording cannot be written, or the folder belongs to another user.
        StoreError: If the store fails.

    Source:
        `gym_recording.storage_s3.download_recording` (OpenAI, gym-recording), which takes recordings of the same name
        in two buckets for one.
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
    """The folder of all downloads, which nobody but this user can have put anything in.

    Raises:
        PermissionError: If another user can.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"vecrollout-recordings-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if hasattr(os, "getuid") and (folder.is_symlink() or state.st_uid != user or state.st_mode & 0o022):
        raise PermissionError(f"{folder}: expected a folder that only this user can write to; remove it")
    return folder
