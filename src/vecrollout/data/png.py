"""Images as PNG files in memory, without a library for images."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np

from vecrollout._typing import Array
from vecrollout.errors import DamagedTraceError, MissingDependencyError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's color types by number of channels."""
_CHANNELS = {color: channels for channels, color in _COLORS.items()}
_UP = 2
"""PNG's filter that stores the difference to the pixel above: quick in NumPy, both ways."""
_LEVEL = 2


def is_image(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether rows are images that PNG holds to the bit: uint8, channels last, of 1 to 4 channels."""
    return dtype == np.uint8 and len(shape) == 3 and 1 <= shape[2] <= 4 and min(shape[:2]) > shape[2]


def encoded(image: Array) -> bytes:
    """An image of shape `(height, width, channels)`, uint8, as PNG.

    Source:
        Portable Network Graphics (PNG) Specification, third edition, sections 5, 7 and 9.
    """
    height, width, channels = image.shape
    rows = np.ascontiguousarray(image).reshape(height, width * channels)
    lines = np.empty((height, 1 + width * channels), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _COLORS[channels], 0, 0, 0)
    data = zlib.compress(lines.tobytes(), _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def decoded(data: bytes, where: str) -> Array:
    """An encoded image, shape `(height, width, channels)`, uint8. Pillow reads what others have encoded."""
    ours = _decoded_ours(data)
    if ours is not None:
        return ours
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(f"{where}: reading this image needs Pillow: pip install pillow") from error
    try:
        image = Image.open(io.BytesIO(data))
        array = np.asarray(image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedTraceError(f"{where}: expected an image: {error}") from error
    return array if array.ndim == 3 else array[:, :, None]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _decoded_ours(data: bytes) -> Array | None:
    """An image as `encoded` writes it; None for any other."""
    if data[:16] != _SIGNATURE + b"\0\0\0\rIHDR" or len(data) < 57 or data[37:41] != b"IDAT":
        return None
    width, height, depth, color, *rest = struct.unpack(">IIBBBBB", data[16:29])
    (size,) = struct.unpack(">I", data[33:37])
    if depth != 8 or color not in _CHANNELS or any(rest) or data[41 + size + 8 : 41 + size + 12] != b"IEND":
        return None
    expected = height * (1 + width * _CHANNELS[color])
    try:
        raw = zlib.decompressobj().decompress(data[41 : 41 + size], expected + 1)
    except (zlib.error, OverflowError, MemoryError):
        return None
    if len(raw) != expected:
        return None
    lines = np.frombuffer(raw, np.uint8).reshape(height, -1)
    if (lines[:, 0] != _UP).any():
        return None
    return np.cumsum(lines[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, _CHANNELS[color])
