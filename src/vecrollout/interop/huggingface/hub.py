"""Upload a data set to Hugging Face's hub."""

from __future__ import annotations

import importlib
import os
from typing import Any

from vecrollout.errors import DamagedTraceError, MissingDependencyError
from vecrollout.interop.conversion.output import local_path


def push_to_hub(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload trajectories",
    endpoint: str | None = None,
) -> str:
    """Upload a directory that `to_hf` or `to_lerobot` wrote to Hugging Face's hub.

    Args:
        path: The directory.
        repo_id: Name of the data set on the hub, such as `"me/cartpole-random"`. It is created if it does not exist.
        private: Whether a new data set is private.
        token: An access token. None: that of `hf auth login`, or `$HF_TOKEN`.
        message: Message of the commit.
        endpoint: URL of the hub. None: that of Hugging Face, or `$HF_ENDPOINT`.

    Returns:
        URL of the data set.

    Raises:
        DamagedTraceError: If there is no such directory.
        ArgumentTypeError: If `path` is no path.
        MissingDependencyError: If huggingface_hub is not installed.
    """
    directory = local_path(path)
    if not directory.is_dir():
        raise DamagedTraceError(f"{directory}: expected a directory that to_hf or to_lerobot wrote, there is none")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingDependencyError(f"uploads need huggingface_hub ({error}): pip install huggingface_hub") from error
    api = hub.HfApi(endpoint=endpoint, token=token)
    url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=directory, repo_type="dataset", commit_message=message)
    return str(url)
