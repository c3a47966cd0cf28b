"""Reads a trace with altered bytes, again and again: `python fuzzing.py TRACE SEED TIMES HOW`.

Only errors of the library may be raised, in 2 GB of memory. `HOW` says which bytes are altered, and whether the journal's
checksums are written anew, so that a parser sees the bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import sys
import warnings
from pathlib import Path

import xxhash
from journals import lines_of, of_lines, only, parts_of

from vecrollout import open_traces, repair_traces, verify_traces
from vecrollout.errors import VecrolloutError

LIMIT_BYTES = 2 << 30


def altered(content: bytes, parts: list[tuple[str, int, int]], generator: random.Random, how: str) -> bytes:
    """The shard with other bytes: one anywhere, or several in what pyarrow parses."""
    changed = bytearray(content)
    if how == "anywhere":
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        return bytes(changed)
    _, begin, end = generator.choice(parts[:-1])
    # A message begins with its metadata.
    end = min(end, begin + 4000)
    for _ in range(generator.choice([1, 2, 2, 3])):
        at = generator.randrange(begin, end)
        changed[at] = generator.choice([0, 1, 255, 127, 128, changed[at] ^ (1 << generator.randrange(8)), 4])
        if generator.random() < 0.2:
            changed[at : at + 8] = generator.choice([bytes(8), b"\xff" * 8, (1 << 40).to_bytes(8, "little")])
    return bytes(changed[: len(content)])


def with_sums(journal: Path, content: bytes) -> bytes:
    """The journal with the checksums of other bytes."""

    def of(begin: int, end: int) -> str:
        return xxhash.xxh3_64_hexdigest(content[begin:end])

    lines = lines_of(journal)
    end = 0
    for line in lines:
        if "shard" in line:
            end = line["shard"][1]
            line["shard"][2] = of(0, end)
        for piece in line.get("batch", [0, []])[1]:
            end = piece[0] + piece[1]
            piece[3] = of(piece[0], end)
        if "finished" in line:
            line["finished"][2] = of(end, line["finished"][1])
    return of_lines(lines)


def read(directory: Path) -> None:
    traces = open_traces(directory)
    for number in range(len(traces)):
        with contextlib.suppress(VecrolloutError):
            trajectory = traces[number]
            list(trajectory.infos if trajectory.infos is not None else [])
            traces.about(number)
        with contextlib.suppress(VecrolloutError):
            traces.columns(number, ["obs"])
    for batch in traces.batches():
        batch.transitions()


def main(origin: Path, seed: int, times: int, how: str) -> None:
    warnings.simplefilter("ignore")
    generator = random.Random(seed)
    parts = parts_of(origin)
    shard, journal = only(origin, ".arrow"), only(origin, ".journal")
    content, sound = shard.read_bytes(), journal.read_bytes()
    target = origin.with_name(f"{origin.name}-{seed}-{how}")
    read(origin)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    for number in range(times):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        changed = altered(content, parts, generator, how)
        (target / shard.name).write_bytes(changed)
        # So that a crash names it.
        (origin.parent / f"last-{seed}-{how}").write_text(str(number))
        if how == "journal":
            lines = bytearray(sound)
            lines[generator.randrange(len(lines))] ^= 1 << generator.randrange(8)
            (target / journal.name).write_bytes(lines)
            (target / shard.name).write_bytes(content)
        elif how == "forged":
            (target / journal.name).write_bytes(with_sums(journal, changed))
        elif how != "lost":
            (target / journal.name).write_bytes(sound)
        for function in (read, verify_traces, repair_traces, read):
            with contextlib.suppress(VecrolloutError):
                function(target)
    print("survived", os.getpid())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
