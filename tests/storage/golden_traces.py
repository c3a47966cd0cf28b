"""What the golden traces hold. `python tests/storage/golden_traces.py NEW_DIRECTORY` writes them in the current format.

Files of a format that was once released are never written again: a new format gets a directory of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import GraphInstance

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryWithRew
from vecrollout.testing import SPACES, batch_of

GRAPHS = spaces.Graph(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3))


def numbers(steps: int, number: int) -> list[int]:
    return [(7 * number + i) % 256 for i in range(steps + 1)]


def of_space(name: str, steps: int, number: int, **fields: Any) -> TrajectoryWithRew:
    rows = numbers(steps, number)
    return TrajectoryWithRew(
        obs=batch_of(SPACES[name], rows),
        acts=np.array(rows[:-1], np.int64),
        infos=[info(i) for i in rows[:-1]],
        terminal=number % 2 == 0,
        terminated=number % 2 == 0,
        rews=np.array(rows[:-1], np.float32) / 4,
        episode=Episode(number, number % 3, number, 40 + number, {"start": (number,)}, "terminated"),
        **fields,
    )


def info(i: int) -> dict[str, Any]:
    typed = {"lives": i % 4, "nested": {"distance": np.float32(i / 8)}, "position": np.array([i, -i], np.int16)}
    odd = {"odd": [i, None, (True, "text")], "some": b"bytes" if i % 3 == 0 else float("inf"), 5: {}}
    return {**typed, **(odd if i % 2 else {})}


def of_objects(steps: int, number: int) -> Trajectory:
    """A dict of graphs, of tuples of any length and of text."""
    rows = numbers(steps, number)
    obs: dict[str, Any] = {key: np.empty(steps + 1, dtype=object) for key in ("graph", "sequence", "text")}
    for row, i in enumerate(rows):
        nodes = np.arange(2 * (i % 4), dtype=np.float32).reshape(-1, 2)
        links = np.array([[0, 0]] * (i % 3), np.int32).reshape(-1, 2)
        obs["graph"][row] = GraphInstance(nodes, np.arange(i % 3), links) if i % 2 else GraphInstance(nodes, None, None)
        obs["sequence"][row] = tuple(np.full(2, j, np.uint8) for j in range(i % 4))
        obs["text"][row] = "ünïcode"[: i % 8]
    return Trajectory(obs, np.array(rows[:-1], ">i2"), None, False, episode=Episode(ended_by="closed"))


def of_images(steps: int, number: int) -> Trajectory:
    """Large rows, whose record batches have heads with checksums of their own."""
    images = np.add.outer(numbers(steps, number), np.arange(2048)).astype(np.uint8).reshape(-1, 32, 64)
    rews = np.arange(steps, dtype=np.float64) / 4
    return TrajectoryWithRew(images, np.arange(steps), None, True, rews=rews, episode=Episode(number))


def traces() -> Iterator[tuple[str, dict[str, Any], list[Trajectory]]]:
    """Name, the writer's options, and the trajectories of each golden trace."""
    nested = [of_space("nested", 1 + number % 5, number) for number in range(12)]
    yield "zstd", {"compression": "zstd", "max_shard_bytes": 4096, "metadata": {"by": "golden"}}, nested
    yield "uncompressed", {"compression": None}, [of_space("image", 3, number) for number in range(3)]
    yield "lz4", {"compression": "lz4", "spaces": (SPACES["text"], SPACES["discrete"])}, [of_space("text", 4, 1)]
    yield "large", {"compression": None}, [of_images(3, number) for number in range(2)]
    yield "objects", {"compression": None}, [of_objects(9, number) for number in range(2)]


def write(directory: Path) -> None:
    for name, options, trajectories in traces():
        with TraceWriter(directory / name, **options) as writer:
            for each in trajectories:
                writer.append(each, metadata={"number": each.episode.id})
                writer.flush()
    # As a process leaves it that was killed: without a footer, and a journal that was not closed.
    child = os.fork()
    if child == 0:
        writer = TraceWriter(directory / "killed")
        for number in range(3):
            writer.append(of_space("dict", 4, number))
            writer.flush()
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
