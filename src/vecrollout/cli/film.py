"""Frames as an MP4 or GIF file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vecrollout.errors import MissingDependencyError, OptionError, ShapeError, TraceWriteError
from vecrollout.storage.files.whole import temporary_path

_ENCODERS = {".mp4": "libx264", ".gif": "gif"}


class Film:
    """A video that appears when it is complete; use it in a `with` block.

    Args:
        path: An `.mp4` or `.gif` file, which is replaced if it exists.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingDependencyError('videos need PyAV: pip install "vecrollout[video]"') from error
        self._av: Any = av
        self._path, self._rate = path, rate
        # The suffix tells PyAV the format.
        self._temporary = temporary_path(path).with_suffix(path.suffix)
        self._container: Any = None
        self._stream: Any = None
        self._palette: Any = None
        self._shape: tuple[int, ...] | None = None
        self._count = 0

    def __enter__(self) -> Film:
        return self

    def add(self, frame: Any) -> None:
        """Add a frame.

        Args:
            frame: Shape `(H, W, 3)`, uint8.
        """
        frame = np.ascontiguousarray(frame)
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ShapeError(f"frame: expected shape (H, W, 3), uint8, got {frame.shape}, {frame.dtype}")
        if self._shape is None:
            self._begin(frame)
        if frame.shape != self._shape:
            raise ShapeError(f"frame {self._count}: expected shape {self._shape} as the first, got {frame.shape}")
        # H.264 has even sides.
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        with self._told():
            self._encode(frame)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # those of PyAV, too
            raise TraceWriteError(f"{self._path}: the video could not be written: {error}") from error

    def _encode(self, frame: Any) -> None:
        video = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        video.pts, video.time_base = self._count, Fraction(1, self._rate)
        self._count += 1
        if self._palette is None:
            self._container.mux(self._stream.encode(video))
        else:
            self._palette.push(video)

    def _begin(self, frame: Any) -> None:
        self._shape = frame.shape
        height, width = (side + side % 2 for side in frame.shape[:2])
        encoder = _ENCODERS[self._path.suffix.lower()]
        with self._told():
            self._container = self._av.open(str(self._temporary), "w")
        self._stream = self._container.add_stream(encoder, rate=self._rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p" if encoder == "libx264" else "pal8"
        if encoder == "gif":
            self._palette = _palette_graph(self._av, width, height, self._rate)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._container is None:
            if kind is None:
                raise OptionError(f"{self._path}: expected at least one frame, got none")
            return
        try:
            if kind is None:
                with self._told():
                    self._finish()
                    self._temporary.replace(self._path)
            else:
                with suppress(OSError):
                    self._container.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._palette is not None:
            self._palette.push(None)
            for number in range(self._count):
                frame = self._palette.pull()
                frame.pts, frame.time_base = number, Fraction(1, self._rate)
                self._container.mux(self._stream.encode(frame))
        self._container.mux(self._stream.encode())
        self._container.close()


def _palette_graph(av: Any, width: int, height: int, rate: int) -> Any:
    """A filter that gives all frames of a GIF the 256 colors that suit them best."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, rate))
    split, generate = graph.add("split"), graph.add("palettegen")
    use, sink = graph.add("paletteuse"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
