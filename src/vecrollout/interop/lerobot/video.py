"""Videos of LeRobot data sets: many episodes one after another in an MP4 file."""

from __future__ import annotations

import importlib
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError, MissingDependencyError, TraceWriteError

VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILE_BYTES = 200 << 20
_CHUNK_FILES = 1000
# LeRobot compares times in float32, which are wrong by less than its tolerance up to here.
_FILE_S = 512
_KEY_FRAME_EACH = 2

Video = Literal["lossless", "lossy"]


class VideoWriter:
    """Writes the frames of all episodes of a camera.

    Args:
        directory: The data set's.
        key: Name of the feature.
        fps: Frames per second.
        video: Whether to keep every bit.
    """

    def __init__(self, directory: Path, key: str, fps: int, video: Video) -> None:
        self._av = av_module()
        self._directory, self._key, self._fps, self._video = directory, key, fps, video
        self._file = self._frames = self._bytes = 0
        self._container: Any = None
        self._stream: Any = None
        self.about: dict[str, Any] = {}
        """What `info.json` says of the video."""

    def add(self, frames: Array) -> dict[str, Any]:
        """Append an episode's frames, shape (T, H, W, 3), and return where they are, for the episode's metadata."""
        if self._container is not None and self._is_full(len(frames)):
            self.close()
            self._file, self._frames, self._bytes = self._file + 1, 0, 0
        try:
            if self._container is None:
                self._open(*frames.shape[1:3])
            begin = self._frames
            for frame in frames:
                picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
                picture.pts, picture.time_base = self._frames, Fraction(1, self._fps)
                packets = self._stream.encode(picture)
                self._container.mux(packets)
                self._frames, self._bytes = self._frames + 1, self._bytes + sum(packet.size for packet in packets)
        except self._av.error.FFmpegError as error:
            raise TraceWriteError(f"{self._key}: the video could not be encoded: {error}") from error
        chunk, file = divmod(self._file, _CHUNK_FILES)
        place = {
            "chunk_index": chunk,
            "file_index": file,
            "from_timestamp": begin / self._fps,
            "to_timestamp": self._frames / self._fps,
        }
        return {f"videos/{self._key}/{name}": value for name, value in place.items()}

    def close(self) -> None:
        """Close the file."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode())
        finally:
            container.close()

    def _is_full(self, more: int) -> bool:
        return (self._frames + more) / self._fps > _FILE_S or self._bytes >= FILE_BYTES

    @property
    def _path(self) -> Path:
        chunk, file = divmod(self._file, _CHUNK_FILES)
        return self._directory / VIDEO_PATH.format(video_key=self._key, chunk_index=chunk, file_index=file)

    def _open(self, height: int, width: int) -> None:
        is_even = height % 2 == width % 2 == 0
        codec, layout, quality = {
            "lossless": ("libx264rgb", "rgb24", "0"),
            # Colors of half the resolution need even sizes.
            "lossy": ("libx264", "yuv420p" if is_even else "yuv444p", "23"),
        }[self._video]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(str(self._path), "w")
        # Frequent key frames, as learners read single frames; no frames that depend on later ones.
        options = {"crf": quality, "g": str(_KEY_FRAME_EACH), "bf": "0"}
        self._stream = self._container.add_stream(codec, self._fps, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, layout
        self.about = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "gbrp" if self._video == "lossless" else layout,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": 3,
            "has_audio": False,
        }


def read_frames(path: Path, begin_s: float, count: int, fps: int) -> Array:
    """Frames of an episode, shape (T, H, W, 3)."""
    av = av_module()
    first = round(begin_s * fps)
    found = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(round(begin_s / stream.time_base), stream=stream)
            for picture in container.decode(stream):
                number = round(picture.pts * picture.time_base * fps)
                if number >= first:
                    found.append(picture.to_ndarray(format="rgb24"))
                if len(found) == count:
                    return np.stack(found)
    except (av.error.FFmpegError, OSError, IndexError, ValueError, TypeError) as error:
        raise DamagedTraceError(f"{path}: expected a video: {error}") from error
    raise DamagedTraceError(f"{path}: expected {count} frames from {begin_s} s on, got {len(found)}")


def av_module() -> Any:
    """The module av."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingDependencyError(f"videos need PyAV ({error}): pip install 'vecrollout[video]'") from error
