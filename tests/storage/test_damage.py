"""What is damaged gives an error that names it, never a wrong episode, and can be repaired up to there."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journals import lines_of, of_lines, only, parts_of
from traces import assert_same_trajectory, of_space, write

from vecrollout import Episode, TraceWriter, Trajectory, TrajectoryWithRew, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError, ProtocolError, TraceVersionError, TraceWriteError
from vecrollout.testing import assert_same

COMPRESSIONS = ("zstd", None)


def several_batches(directory: Path, compression: str | None = "zstd") -> list[TrajectoryWithRew]:
    """A shard of five batches of two trajectories each."""
    written = [of_space("dict", 3 + number, number, infos=[{}] * (3 + number)) for number in range(10)]
    with TraceWriter(directory, compression=compression) as writer:  # type: ignore[arg-type]
        for number, each in enumerate(written):
            writer.append(each)
            if number % 2:
                writer.flush()
    return written


def assert_prefix(directory: Path, written: list[TrajectoryWithRew]) -> int:
    """All that can be read is what was written, from the start on; its number."""
    read = list(open_traces(directory))
    for actual, expected in zip(read, written, strict=False):
        assert_same_trajectory(actual, expected)
    assert len(read) <= len(written)
    return len(read)


def assert_repairs(directory: Path, written: list[TrajectoryWithRew], kept: int | None = None) -> None:
    report = repair_traces(directory)
    assert report.changes
    assert verify_traces(directory).problems == ()
    assert assert_prefix(directory, written) == report.trajectories
    assert kept is None or report.trajectories == kept
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert repair_traces(directory).changes == ()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def files_of(directory: Path) -> set[str]:
    return {problem.file for problem in verify_traces(directory).problems}


def copied(origin: Path, target: Path) -> Path:
    return Path(shutil.copytree(origin, target))


def alter(path: Path, at: int, bits: int = 1) -> bytes:
    content = bytearray(path.read_bytes())
    content[at] ^= bits
    path.unlink()  # not altered in its place: views of it, and what repair kept, stay as they are
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_whole_verifies(compression: str | None, tmp_path: Path) -> None:
    several_batches(tmp_path, compression)
    report = verify_traces(tmp_path)
    assert (report.problems, report.trajectories) == ((), 10)
    assert repair_traces(tmp_path).changes == ()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_shard_cut_anywhere(compression: str | None, tmp_path: Path) -> None:
    written = several_batches(tmp_path / "whole", compression)
    begins = [begin for _, begin, _ in parts_of(tmp_path / "whole")]
    size = only(tmp_path / "whole", ".arrow").stat().st_size
    cuts = {begin + off for begin in begins for off in (-8, -1, 0, 1, 60)} | {3, 12, size - 1, size - 7}
    for cut in sorted(cut for cut in cuts if 0 <= cut < size):
        directory = copied(tmp_path / "whole", tmp_path / str(cut))
        shard = only(directory, ".arrow").name
        os.truncate(directory / shard, cut)
        with pytest.raises(DamagedTraceError, match=rf"{shard}: expected {size} bytes"):
            open_traces(directory)
        assert files_of(directory) == {shard}
        assert_repairs(directory, written, sum(begin <= cut for begin in begins[2:]) * 2)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_byte_anywhere_in_the_shard(compression: str | None, tmp_path: Path) -> None:
    written = several_batches(tmp_path / "whole", compression)
    generator = random.Random(0)
    for section, (place, begin, end) in enumerate(parts_of(tmp_path / "whole")):
        for at in {begin, end - 1, *generator.sample(range(begin, end), 4)}:
            directory = copied(tmp_path / "whole", tmp_path / str(at))
            shard = only(directory, ".arrow")
            content = alter(shard, at, 1 << generator.randrange(8))
            problems = verify_traces(directory).problems
            assert (shard.name, place) in {(problem.file, problem.place) for problem in problems}
            if place == "footer":  # it says nothing that is not known already
                assert assert_prefix(directory, written) == 10
            else:
                with pytest.raises(DamagedTraceError, match=shard.name):
                    list(open_traces(directory))
            assert_repairs(directory, written, 0 if section == 0 else min(section - 1, 5) * 2)
            assert (directory / f"{shard.name}.damaged").read_bytes() == content


def test_a_flipped_byte_anywhere_in_the_journal(tmp_path: Path) -> None:
    """Nothing wrong is read, and repair finds in the shard what the journal does not tell."""
    written = several_batches(tmp_path / "whole")
    name = only(tmp_path / "whole", ".journal").name
    size = (tmp_path / "whole" / name).stat().st_size
    for number, at in enumerate([*range(0, size, 41), size - 1]):
        directory = copied(tmp_path / "whole", tmp_path / str(at))
        alter(directory / name, at)
        with pytest.raises(DamagedTraceError, match=f"{name}: .*repair_traces"):
            open_traces(directory)
        assert name in files_of(directory)
        if number % 6 == 0:
            assert_repairs(directory, written, 10)


def test_a_journal_cut_anywhere(tmp_path: Path) -> None:
    """What is read is a prefix, and the cut is seen, unless the lines behind it say nothing of trajectories."""
    written = several_batches(tmp_path / "whole")
    content = only(tmp_path / "whole", ".journal").read_bytes()
    last_batch = content.index(b"\n", content.rindex(b'{"batch"')) + 1
    ends = {i + 1 for i, byte in enumerate(content) if byte == 10}
    for cut in sorted({*range(0, len(content), 97), *ends} - {len(content)}):
        directory = copied(tmp_path / "whole", tmp_path / str(cut))
        journal = only(directory, ".journal")
        os.truncate(journal, cut)
        is_lost = cut <= content.index(b"\n")
        with pytest.warns(UserWarning, match="journal") if is_lost else contextlib.nullcontext():
            assert_prefix(directory, written)
        assert verify_traces(directory).ok == (cut >= last_batch)
        assert_repairs(directory, written, 10)


def test_a_lost_journal(tmp_path: Path) -> None:
    """Other writers' trajectories are read, and a warning names the shard and the cure."""
    written = several_batches(tmp_path)
    only(tmp_path, ".journal").unlink()
    lost = only(tmp_path, ".arrow").name
    write(tmp_path, [of_space("box", 3, 7)])
    with pytest.warns(UserWarning, match=f"{lost} is not read: .*journal.*repair_traces"):
        traces = open_traces(tmp_path)
    assert [each.episode.id for each in traces] == [7]
    assert [str(problem) for problem in verify_traces(tmp_path).problems] == [
        f"{lost}: file: there is no journal of its writer"
    ]
    assert repair_traces(tmp_path).trajectories == 11
    assert verify_traces(tmp_path).ok
    for actual, expected in zip(open_traces(tmp_path), written, strict=False):
        assert_same_trajectory(actual, expected)
    assert repair_traces(tmp_path).changes == ()


@pytest.mark.parametrize("how", ["zeros", "half a schema", "garbage", "empty"])
def test_a_broken_shard_of_another_writer(how: str, tmp_path: Path) -> None:
    """A power cut leaves such a shard; the others stay readable."""
    written = several_batches(tmp_path)
    head = only(tmp_path, ".arrow").read_bytes()[:600]
    content = {"zeros": bytes(4096), "half a schema": head + bytes(4000), "garbage": b"x" * 4096, "empty": b""}[how]
    broken = tmp_path / "20300101T000000.000000000Z-0123456789abcdef-000000.arrow"
    broken.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{broken.name} is not read.*repair_traces"):
        assert assert_prefix(tmp_path, written) == 10
    assert files_of(tmp_path) == {broken.name}
    assert_repairs(tmp_path, written, 10)
    assert not broken.exists()


@pytest.mark.parametrize("content", [bytes(4096), b"x" * 4096, b""])
def test_a_broken_shard_that_had_just_begun(content: bytes, tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    journal = only(tmp_path, ".journal")
    journal.write_bytes(of_lines(lines_of(journal)[:-1]))
    broken = only(tmp_path, ".arrow").name.replace("-000000.", "-000001.")
    (tmp_path / broken).write_bytes(content)
    assert assert_prefix(tmp_path, written) == 10
    assert files_of(tmp_path) == ({broken} if content else set())
    assert_repairs(tmp_path, written, 10)


def test_a_journal_of_zeros(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    journal = tmp_path / "20300101T000000.000000000Z-0123456789abcdef.journal"
    journal.write_bytes(bytes(100))
    assert assert_prefix(tmp_path, written) == 10
    assert verify_traces(tmp_path).ok
    assert_repairs(tmp_path, written, 10)
    assert not journal.exists()


def of_flushes(directory: Path, count: int, **options: Any) -> list[str]:
    """Trajectories of a shard each; the shards' names."""
    written = [of_space("image", 50, number) for number in range(count)]
    write(directory, written, flush=True, compression=None, max_shard_bytes=4096, **options)
    shards = sorted(path.name for path in directory.glob("*.arrow"))
    assert len(shards) == count
    return shards


@pytest.mark.parametrize("closed", [True, False])
def test_a_copy_of_a_shard(closed: bool, tmp_path: Path) -> None:
    """It is never read beside the shard, is reported, and repair does not take it in."""
    shards = of_flushes(tmp_path, 3)
    journal = only(tmp_path, ".journal")
    if not closed:
        journal.write_bytes(of_lines(lines_of(journal)[:-1]))
    copy = shards[0].replace("-000000.", "-000003.")
    shutil.copy(tmp_path / shards[0], tmp_path / copy)
    assert len(open_traces(tmp_path)) == 3
    assert copy in files_of(tmp_path)
    assert repair_traces(tmp_path).trajectories == 3
    assert verify_traces(tmp_path).ok
    assert [each.episode.id for each in open_traces(tmp_path)] == [0, 1, 2]
    assert not (tmp_path / copy).exists()


def test_a_shard_that_was_copied_to_another_writers_name(tmp_path: Path) -> None:
    shards = of_flushes(tmp_path, 1)
    journal = only(tmp_path, ".journal")
    other = "20300101T000000.000000000Z-0123456789abcdef"
    header, *lines = lines_of(journal)
    (tmp_path / f"{other}.journal").write_bytes(of_lines([{**header, "writer": other}, *lines]))
    shutil.copy(tmp_path / shards[0], tmp_path / f"{other}-000000.arrow")
    with pytest.raises(DamagedTraceError, match="a copy of"):
        list(open_traces(tmp_path))
    assert files_of(tmp_path) == {f"{other}-000000.arrow"}
    assert repair_traces(tmp_path).trajectories == 1
    assert verify_traces(tmp_path).ok


def test_steps_that_are_there_twice(tmp_path: Path) -> None:
    """`recording`, `id` and step name a step in all of a data set."""

    def part(start: int, steps: int) -> Trajectory:
        episode = Episode(id=3, start_step=start, recording="one")
        return Trajectory(np.zeros(steps + 1), np.zeros(steps), None, False, episode=episode)

    for start, steps in ((0, 4), (4, 2), (6, 1)):
        write(tmp_path, [part(start, steps)])
    assert verify_traces(tmp_path).ok
    write(tmp_path, [part(5, 2)])
    (problem,) = verify_traces(tmp_path).problems
    assert "already" in problem.what
    assert repair_traces(tmp_path).trajectories == 3
    assert verify_traces(tmp_path).ok


def test_a_journal_that_counts_other_rows(tmp_path: Path) -> None:
    several_batches(tmp_path)
    journal = only(tmp_path, ".journal")
    lines = lines_of(journal)
    batch = next(line for line in lines if "batch" in line)
    batch["rows"] = [batch["rows"][0] + 1, batch["rows"][1] - 1]
    journal.write_bytes(of_lines(lines))
    with pytest.raises(DamagedTraceError, match="journal lists"):
        list(open_traces(tmp_path))
    (problem,) = verify_traces(tmp_path).problems
    assert problem.place == "batch 0"


@pytest.mark.parametrize(("name", "value"), [("ended", 2), ("env", 3), ("episode", 7), ("start_step", 5)])
def test_a_journal_that_tells_something_else(name: str, value: int, tmp_path: Path) -> None:
    """With checksums that are right, so that it was written so."""
    several_batches(tmp_path)
    journal = only(tmp_path, ".journal")
    lines = lines_of(journal)
    batch = next(line for line in lines if "batch" in line)
    batch[name] = value
    journal.write_bytes(of_lines(lines))
    (problem,) = verify_traces(tmp_path).problems
    assert (problem.place, "journal lists" in problem.what) == ("batch 0", True)


def test_a_missing_shard(tmp_path: Path) -> None:
    gone = tmp_path / of_flushes(tmp_path, 4)[1]
    gone.unlink()
    with pytest.raises(DamagedTraceError, match=gone.name):
        open_traces(tmp_path)
    assert files_of(tmp_path) == {gone.name}
    assert {change.file for change in repair_traces(tmp_path).changes} == {gone.name}
    assert [each.episode.id for each in open_traces(tmp_path)] == [0, 2, 3]
    assert verify_traces(tmp_path).ok
    assert repair_traces(tmp_path).changes == ()


def test_a_shard_that_was_left_out_of_its_journal(tmp_path: Path) -> None:
    shards = of_flushes(tmp_path, 3)
    journal = only(tmp_path, ".journal")
    lines = lines_of(journal)
    for left_out, named in ((2, journal.name), (1, shards[1])):
        kept = [
            line for line in lines[:-1] if left_out not in (value[0] for value in line.values() if type(value) is list)
        ]
        journal.write_bytes(of_lines(kept))
        assert len(open_traces(tmp_path)) == 2
        assert files_of(tmp_path) == {named}


def test_a_newer_format_is_refused_with_its_version(tmp_path: Path) -> None:
    several_batches(tmp_path)
    journal = only(tmp_path, ".journal")
    header, *lines = lines_of(journal)
    journal.write_bytes(of_lines([{**header, "format_version": 7}, *lines]))
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(TraceVersionError, match="got 7"):
            function(tmp_path)


def test_other_files(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    (tmp_path / "notes.txt").write_text("not a trace")
    (tmp_path / "other.journal").write_text("nothing of ours")
    (tmp_path / "other.arrow").write_bytes(b"nothing of ours")
    (tmp_path / "folder").mkdir()
    assert assert_prefix(tmp_path, written) == 10
    assert verify_traces(tmp_path).ok


def test_no_directory(tmp_path: Path) -> None:
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(DamagedTraceError, match="expected a directory"):
            function(tmp_path / "missing")
    assert len(open_traces(tmp_path)) == 0


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices have names on POSIX")
@pytest.mark.parametrize("suffix", [".journal", "-000000.arrow"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file(suffix: str, kind: str, tmp_path: Path) -> None:
    """Reading a pipe or a device would never end."""
    several_batches(tmp_path)
    path = only(tmp_path, suffix)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for reads in (lambda: list(open_traces(tmp_path)), lambda: list(open_traces(tmp_path, check=False))):
        with pytest.raises(DamagedTraceError, match=path.name):
            reads()
    assert path.name in files_of(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="the size of files can be limited on POSIX")
def test_a_repair_that_cannot_write(tmp_path: Path) -> None:
    """The shard stays as it is, and a later repair does the work."""
    import resource

    written = several_batches(tmp_path)
    shard = only(tmp_path, ".arrow")
    os.truncate(shard, shard.stat().st_size // 2)
    cut, limits = shard.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TraceWriteError, match="expected a directory that can be written to"):
            repair_traces(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert shard.read_bytes() == cut
    assert_repairs(tmp_path, written)


def test_checks_can_be_left_out(tmp_path: Path) -> None:
    several_batches(tmp_path, None)
    shard = only(tmp_path, ".arrow")
    content = shard.read_bytes()
    camera = np.full(16, 3, np.uint8).tobytes()
    assert camera in content
    shard.write_bytes(content.replace(camera, b"\0" + camera[1:]))
    assert len(list(open_traces(tmp_path, check=False))) == 10
    with pytest.raises(DamagedTraceError, match="checksum"):
        list(open_traces(tmp_path))


def test_a_flipped_byte_in_the_footer_gives_no_other_values(tmp_path: Path) -> None:
    """It holds the schema once more: doubles could be taken for floats, and fields for others."""
    infos = [{"place": number / 3, "count": -number} for number in range(4)]
    write(tmp_path, [of_space("box", 4, infos=infos)])
    shard = only(tmp_path, ".arrow")
    whole = shard.read_bytes()
    _, begin, end = parts_of(tmp_path)[-1]
    for at in range(begin, end, 5):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert_same(list(open_traces(tmp_path)[0].infos), infos)  # type: ignore[arg-type]


def test_what_two_repairs_set_aside_is_kept(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    damaged = {}
    for batch, kept in ((3, 6), (1, 2), (-1, 0)):
        shard = only(tmp_path, ".arrow")
        damaged[f"{shard.name}.damaged"] = alter(shard, parts_of(tmp_path)[1 + batch][2] - 1)
        assert_repairs(tmp_path, written, kept)
    assert len(damaged) == 3
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.damaged")} == damaged


@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_a_repair_that_is_killed_can_be_repeated(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right behind any change that it makes to the directory nothing sound is missing."""
    for times in itertools.count(1):
        directory = tmp_path / str(times)
        written = several_batches(directory)
        if step == "replace":
            alter(only(directory, ".arrow"), parts_of(directory)[4][2] - 1)
        else:  # as of a writer that was killed
            journal = only(directory, ".journal")
            journal.write_bytes(of_lines(lines_of(journal)[:-2]))
        left = [times]
        with monkeypatch.context() as patched:
            patched.setattr(Path, step, killed_after(getattr(Path, step), left))
            with contextlib.suppress(KilledError):
                repair_traces(directory)
        repair_traces(directory)
        assert assert_prefix(directory, written) == (6 if step == "replace" else 10)
        assert verify_traces(directory).ok
        if left[0] > 0:
            break
    assert times > 1


class KilledError(BaseException):
    pass


def killed_after(call: Any, left: list[int]) -> Any:
    def killed(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        return result

    return killed


def test_temporary_files_of_processes_that_were_killed(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    writer = only(tmp_path, ".journal").stem
    leftovers = {f".{writer}.journal.0123abcd.tmp", f".{writer}-000000.arrow.0123abcd.tmp"}
    others = {f"{writer}.journal.tmp", ".other.journal.0123abcd.tmp", f".{writer}.journal"}
    for name in leftovers | others:
        (tmp_path / name).write_bytes(b"half of it")
    report = verify_traces(tmp_path)
    assert (report.ok, set(report.leftovers)) == (True, leftovers)
    assert {change.file for change in repair_traces(tmp_path).changes} == leftovers
    assert verify_traces(tmp_path).leftovers == ()
    assert leftovers.isdisjoint(os.listdir(tmp_path))
    assert others <= set(os.listdir(tmp_path))
    assert repair_traces(tmp_path).changes == ()
    assert assert_prefix(tmp_path, written) == 10


@pytest.mark.skipif(os.name == "nt", reason="there, an open file cannot be replaced")
def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.append(of_space("box", 3, 0))
        writer.flush()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ProtocolError, match=rf"{re.escape(writer.name)}.*: expected no writer at work"):
            repair_traces(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        writer.append(of_space("box", 3, 1))
    assert repair_traces(tmp_path).trajectories == 2
