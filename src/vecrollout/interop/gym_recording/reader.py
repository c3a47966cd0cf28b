"""Reads recordings in gym-recording's format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.errors import DamagedTraceError
from vecrollout.interop.gym_recording.arrays import ArrayReader
from vecrollout.interop.gym_recording.directory import local_directory, open_regular
from vecrollout.interop.gym_recording.stacking import RecordedEpisode, episode_from_json, trajectory_of
from vecrollout.storage.codec.metadata import parsed
from vecrollout.storage.files.names import is_file_name

_MANIFESTS = "openaigym.trace.*.manifest.json"
_BATCHES = "openaigym.trace.*.ep*.json"
_PICKLED_MANIFESTS = "openaigym.trace.*.manifest.pkl"
_NUMBERED = re.compile(r"openaigym\.trace\.(?P<counter>\d+)\.(?P<process>\d+)\.manifest\.json")


class RecordedBatch(NamedTuple):
    """A batch of episodes, as the manifest lists it."""

    first: int
    """Number of the batch's first episode, counted by its recorder."""
    len: int
    """Number of episodes in the batch."""
    fn: str
    """Name of the batch's JSON file."""


class GymRecordingReader:
    """Reads a directory that gym-recording, or a `GymRecordingWriter`, wrote.

    It reads every version of the format: arrays as plain bytes, arrays as NumPy's own files (first version), and lists.
    It never unpickles anything.

    Recorders come one after another: first OpenAI's, by process id and number, then ours, by the time of their start.
    The episodes of each recorder are in the order of recording.

    Args:
        directory: The directory.

    Raises:
        ArgumentTypeError: If `directory` is no path.
        OptionError: If it is a URL.
        DamagedTraceError: If it is no directory, or a manifest is damaged or missing.

    Source:
        `gym_recording.playback` (OpenAI, gym-recording), which reads the manifests in any order.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = local_directory(directory)
        self.batches: tuple[RecordedBatch, ...] = tuple(
            batch for manifest in _manifests(self.directory) for batch in _batches(manifest)
        )
        """All batches, in the order described above."""

    def episodes(self, batch: RecordedBatch) -> list[RecordedEpisode]:
        """The episodes of a batch. Arrays are read-only views of its file, which must not change meanwhile.

        Args:
            batch: One of `batches`.

        Raises:
            DamagedTraceError: If one of the batch's files is missing or does not hold what it should.
        """
        path = self.directory / batch.fn
        try:
            document = json.loads(_content(path), object_hook=ArrayReader(self.directory, batch.fn).decode)
            episodes = document.get("episodes") if isinstance(document, dict) else None
            if not isinstance(episodes, list) or len(episodes) != batch.len:
                raise DamagedTraceError(f"{batch.fn}: expected {batch.len} episodes, as the manifest says")
            return [episode_from_json(each, f"{batch.fn}: episode {i}") for i, each in enumerate(episodes)]
        except OSError as error:
            raise DamagedTraceError(f"{batch.fn}: expected a batch of episodes, got none: {error}") from error
        except DamagedTraceError:
            raise
        except (ValueError, RecursionError) as error:
            raise DamagedTraceError(f"{batch.fn}: expected JSON, got other text: {error}") from error

    def trajectories(self) -> Iterator[TrajectoryWithRew]:
        """All episodes as trajectories, in order, except episodes without a step.

        The format does not say how an episode ended, so all three flags are False, and `episode.ended_by` is None. An
        episode's id is its number in this order.

        Raises:
            DamagedTraceError: If a file is missing or does not hold what it should.
        """
        number = 0
        for batch in self.batches:
            for i, episode in enumerate(self.episodes(batch)):
                trajectory = trajectory_of(episode, number, f"{batch.fn}: episode {i}")
                if trajectory is not None:
                    yield trajectory
                number += 1


def _manifests(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise DamagedTraceError(f"{directory}: expected a directory of recordings, there is none")
    found = sorted(directory.glob(_MANIFESTS), key=_in_order)
    if not found and any(directory.glob(_BATCHES)):
        raise DamagedTraceError(f"{directory}: expected a manifest that lists the batches, got none")
    if not found and any(directory.glob(_PICKLED_MANIFESTS)):
        raise DamagedTraceError(
            f"{directory}: expected recordings in JSON, got pickled ones of another program; they are not read, "
            "as reading them would run code from the files"
        )
    return found


def _in_order(manifest: Path) -> tuple[bool, int, int, str]:
    numbers = _NUMBERED.fullmatch(manifest.name)
    if numbers is None:
        return True, 0, 0, manifest.name
    return False, int(numbers["process"]), int(numbers["counter"]), manifest.name


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _batches(manifest: Path) -> Iterator[RecordedBatch]:
    try:
        listed: Any = parsed(_content(manifest), manifest.name).get("batches")
    except OSError as error:
        raise DamagedTraceError(f"{manifest.name}: expected a manifest, got none: {error}") from error
    if not isinstance(listed, list):
        raise DamagedTraceError(f"{manifest.name}: expected a list of batches, got {type(listed).__name__}")
    for entry in listed:
        if not isinstance(entry, dict):
            raise DamagedTraceError(f"{manifest.name}: expected a batch, got {entry!r}")
        first, number, name = (entry.get(field) for field in RecordedBatch._fields)
        # A name only: a path could lead out of the directory.
        if not (type(first) is type(number) is int and type(name) is str and number >= 0 and is_file_name(name)):
            raise DamagedTraceError(f"{manifest.name}: expected a batch's first, len and fn, got {entry}")
        yield RecordedBatch(first, number, name)
