"""What is damaged gives an error that names it, never a wrong episode, and can be repaired up to there."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traces import assert_same_trajectory, of_space, write

from vecrollout import TraceWriter, TrajectoryWithRew, open_traces, repair_traces, verify_traces
from vecrollout.errors import DamagedTraceError, ProtocolError, TraceVersionError, TraceWriteError
from vecrollout.storage import encoder
from vecrollout.storage.derive import derive
from vecrollout.storage.index import ShardIndex
from vecrollout.storage.local import LocalDirectory, MappedFile
from vecrollout.storage.manifest import Manifest
from vecrollout.storage.shard import Shard
from vecrollout.testing import assert_same

COMPRESSIONS = ("zstd", None)


def only(directory: Path, suffix: str) -> Path:
    (path,) = directory.glob(f"*{suffix}")
    return path


def several_batches(directory: Path, compression: str | None = "zstd") -> list[TrajectoryWithRew]:
    """A shard of five batches of two trajectories each."""
    written = [of_space("dict", 3 + number, number, infos=[{}] * (3 + number)) for number in range(10)]
    with TraceWriter(directory, compression=compression) as writer:  # type: ignore[arg-type]
        for number, each in enumerate(written):
            writer.append(each)
            if number % 2:
                writer.flush()
    return written


def index_of(directory: Path) -> ShardIndex:
    return derive(Shard(MappedFile(only(directory, ".arrow"))))[0]


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


def whole_or_error(directory: Path, written: list[TrajectoryWithRew]) -> str:
    """Nothing where everything can be read, else the file that the error names."""
    try:
        assert assert_prefix(directory, written) == len(written)
    except (DamagedTraceError, TraceVersionError) as error:
        return str(error).partition(": ")[0]
    return ""


def json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_whole_verifies(compression: str | None, tmp_path: Path) -> None:
    several_batches(tmp_path, compression)
    report = verify_traces(tmp_path)
    assert (report.ok, report.trajectories) == (True, 10)
    assert repair_traces(tmp_path).changes == ()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_cut_anywhere(compression: str | None, tmp_path: Path) -> None:
    """Once with its manifest, which expects more, and once without, as a writer that was killed leaves it."""
    origin = tmp_path / "whole"
    written = several_batches(origin, compression)
    index = index_of(origin)
    begins = [*index.batches["offset"].tolist(), index.section(6)[0]]
    cuts = {0, 3, 8, 12, 100, begins[0] - 1, index.size - 1, index.size - 7}
    cuts |= {begin + off for begin in begins for off in (-8, -1, 0, 1, 4, 8, 60)}
    for cut in sorted(cut for cut in cuts if cut < index.size):
        whole = sum(begin <= cut for begin in begins[1:]) * 2
        for name in ("listed", "killed"):
            directory = tmp_path / f"{name}{cut}"
            shutil.copytree(origin, directory)
            os.truncate(only(directory, ".arrow"), cut)
            if name == "listed":
                with pytest.raises(DamagedTraceError, match=r"expected .* bytes"):
                    open_traces(directory)
                assert only(directory, ".arrow").name in {problem.file for problem in verify_traces(directory).problems}
            else:
                only(directory, ".json").unlink()
                only(directory, ".index").unlink()
                assert assert_prefix(directory, written) == whole
                # Between two batches, while the schema was written, or within a footer of which nothing is lost.
                between = cut in begins or cut < begins[0] or cut >= begins[-1] + 8
                assert verify_traces(directory).ok == between
            assert_repairs(directory, written, whole)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_byte_anywhere_in_the_shard(compression: str | None, tmp_path: Path) -> None:
    written = several_batches(tmp_path / "whole", compression)
    index = index_of(tmp_path / "whole")
    generator = random.Random(0)
    for section in range(7):
        begin, end = index.section(section)
        for number, at in enumerate([begin, end - 1, *generator.sample(range(begin, end), 6)]):
            directory = tmp_path / f"{section}-{number}"
            shutil.copytree(tmp_path / "whole", directory)
            shard = only(directory, ".arrow")
            content = bytearray(shard.read_bytes())
            content[at] ^= 1 << generator.randrange(8)
            shard.write_bytes(content)
            problems = verify_traces(directory).problems
            assert shard.name in {problem.file for problem in problems}
            if section < 6:
                with pytest.raises(DamagedTraceError, match=shard.name):
                    list(open_traces(directory))
            else:  # the footer says nothing that is not known already
                assert whole_or_error(directory, written) in ("", shard.name)
            assert_repairs(directory, written, 0 if section == 0 else min(section - 1, 5) * 2)


def test_a_flipped_byte_in_the_index_does_no_harm(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    index = only(tmp_path, ".index")
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    index.write_bytes(content)
    assert assert_prefix(tmp_path, written) == 10
    (problem,) = verify_traces(tmp_path).problems
    assert problem.file == index.name
    assert_repairs(tmp_path, written, 10)


def test_a_missing_index_does_no_harm(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    only(tmp_path, ".index").unlink()
    assert assert_prefix(tmp_path, written) == 10
    assert not verify_traces(tmp_path).ok
    assert_repairs(tmp_path, written, 10)


def test_a_flipped_byte_in_the_manifest(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    manifest = only(tmp_path, ".json")
    content = manifest.read_bytes()
    for at in range(0, len(content), 7):
        altered = bytearray(content)
        altered[at] ^= 1
        manifest.write_bytes(altered)
        only_space_changed = json_or_none(altered) == json.loads(content)
        assert whole_or_error(tmp_path, written) == ("" if only_space_changed else manifest.name)
    manifest.write_bytes(content[:-30])
    (problem,) = verify_traces(tmp_path).problems
    assert problem.file == manifest.name
    assert_repairs(tmp_path, written, 10)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_byte_where_the_index_is_missing(compression: str | None, tmp_path: Path) -> None:
    """The manifest knows that something is wrong, if not where."""
    written = several_batches(tmp_path / "whole", compression)
    generator = random.Random(0)
    for number, at in enumerate(generator.sample(range(index_of(tmp_path / "whole").size), 30)):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", directory)
        only(directory, ".index").unlink()
        shard = only(directory, ".arrow")
        content = flip(shard, at)
        with pytest.raises(DamagedTraceError, match=shard.name):
            open_traces(directory)
        assert shard.name in {problem.file for problem in verify_traces(directory).problems}
        assert_repairs(directory, written)
        assert shard.with_name(f"{shard.name}.damaged").read_bytes() == content


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_flipped_byte_where_the_manifest_is_missing(compression: str | None, tmp_path: Path) -> None:
    """The index beside the shard still knows the checksums."""
    written = several_batches(tmp_path, compression)
    begin, end = index_of(tmp_path).section(4)
    shard = only(tmp_path, ".arrow")
    content = bytearray(shard.read_bytes())
    content[end - 70] ^= 1
    only(tmp_path, ".json").unlink()
    assert open_traces(tmp_path)[7] == written[7]
    shard.write_bytes(content)
    assert begin < end - 70
    traces = open_traces(tmp_path)
    assert traces[0] == written[0]
    with pytest.raises(DamagedTraceError, match=r"batch 3: .* checksum differs"):
        traces[7]
    problems = verify_traces(tmp_path).problems
    assert {(each.file, each.place) for each in problems} >= {(shard.name, "batch 3"), (shard.name, "file")}
    assert_repairs(tmp_path, written, 6)


def test_a_missing_manifest(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    only(tmp_path, ".json").unlink()
    (problem,) = verify_traces(tmp_path).problems
    assert (problem.file, problem.what) == (
        only(tmp_path, ".arrow").name,
        "finished, but there is no manifest that lists it",
    )
    assert whole_or_error(tmp_path, written) == ""
    assert_repairs(tmp_path, written, 10)


def test_a_writer_that_finishes_a_shard_just_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment of it nothing is damaged, and what was flushed can be read."""
    seen = []

    def looks(before: Any) -> Any:
        def looking(*arguments: Any) -> Any:
            seen.append(verify_traces(tmp_path).problems)
            result = before(*arguments)
            seen.append(verify_traces(tmp_path).problems)
            return result

        return looking

    monkeypatch.setattr(encoder, "write_index", looks(encoder.write_index))
    monkeypatch.setattr(Manifest, "write", looks(Manifest.write))
    with TraceWriter(tmp_path, max_shard_bytes=4096) as writer:
        for number in range(4):
            writer.append(of_space("image", 50, number))
            writer.flush()
    assert len(list(tmp_path.glob("*.index"))) > 1
    assert len(seen) > 10
    assert set(seen) == {()}


def test_a_shard_that_was_left_out_of_its_manifest(tmp_path: Path) -> None:
    """Of a writer that was killed only the last shard may be finished and not listed."""
    written = [of_space("image", 50, number) for number in range(3)]
    write(tmp_path, written, flush=True, compression=None, max_shard_bytes=4096)
    shards = sorted(path.name for path in tmp_path.glob("*.arrow"))
    assert len(shards) == 3
    location = LocalDirectory(tmp_path)
    manifest = replace(Manifest.read(location, only(tmp_path, ".json").name), closed=False)
    for left_out, expected in ((2, []), (1, [shards[1]])):
        listed = tuple(entry for entry in manifest.shards if entry.file != shards[left_out])
        replace(manifest, shards=listed).write(location)
        assert [problem.file for problem in verify_traces(tmp_path).problems] == expected
        assert whole_or_error(tmp_path, written) == ""
    assert_repairs(tmp_path, written, 3)


def test_a_missing_shard(tmp_path: Path) -> None:
    written = [of_space("image", 30, number) for number in range(4)]
    write(tmp_path, written, max_shard_bytes=4096, compression=None, flush=True)
    gone = sorted(tmp_path.glob("*.arrow"))[1]
    gone.unlink()
    with pytest.raises(DamagedTraceError, match=gone.name):
        open_traces(tmp_path)
    assert {problem.file for problem in verify_traces(tmp_path).problems} == {gone.name}
    report = repair_traces(tmp_path)
    assert {change.file for change in report.changes} == {gone.name}
    assert [each.episode.id for each in open_traces(tmp_path)] == [0, 2, 3]
    assert verify_traces(tmp_path).ok
    assert repair_traces(tmp_path).changes == ()


def test_a_newer_format_is_refused_with_its_version(tmp_path: Path) -> None:
    several_batches(tmp_path)
    manifest = only(tmp_path, ".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), "format_version": 7}))
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(TraceVersionError, match="got 7"):
            function(tmp_path)


def test_other_files(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    (tmp_path / "notes.txt").write_text("not a trace")
    (tmp_path / "other.json").write_text("nothing of ours")
    (tmp_path / "other.arrow").write_bytes(b"nothing of ours")
    assert assert_prefix(tmp_path, written) == 10
    assert verify_traces(tmp_path).ok


def test_no_directory(tmp_path: Path) -> None:
    for function in (open_traces, verify_traces, repair_traces):
        with pytest.raises(DamagedTraceError, match="expected a directory"):
            function(tmp_path / "missing")
    assert len(open_traces(tmp_path)) == 0


@pytest.mark.skipif(os.name != "posix", reason="the size of files can be limited on POSIX")
def test_a_repair_that_cannot_write(tmp_path: Path) -> None:
    """The shard stays as it is, and a later repair does the work."""
    import resource

    written = several_batches(tmp_path)
    shard = only(tmp_path, ".arrow")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
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
    begin, end = index_of(tmp_path).section(2)
    for at in range(begin, end):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with contextlib.suppress(DamagedTraceError):
            assert_same(list(open_traces(tmp_path)[0].infos), infos)  # type: ignore[arg-type]


def test_a_name_in_the_schema_that_is_no_text(tmp_path: Path) -> None:
    several_batches(tmp_path, None)
    shard = only(tmp_path, ".arrow")
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"reward\0", b"rewar\xff\0", 1))
    with pytest.raises(DamagedTraceError, match=shard.name):
        list(open_traces(tmp_path))
    assert [problem.place for problem in verify_traces(tmp_path).problems] == ["schema"]
    repair_traces(tmp_path)
    assert verify_traces(tmp_path).ok


def flip(path: Path, at: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()  # not altered in its place: views of it, and what repair kept, stay as they are
    path.write_bytes(content)
    return bytes(content)


def test_what_two_repairs_set_aside_is_kept(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    shard = only(tmp_path, ".arrow")
    damaged = [flip(shard, index_of(tmp_path).section(4)[1] - 1)]
    assert_repairs(tmp_path, written, 6)
    damaged.append(flip(shard, index_of(tmp_path).section(2)[1] - 1))
    assert_repairs(tmp_path, written, 2)
    damaged.append(flip(shard, 20))
    assert_repairs(tmp_path, written, 0)
    kept = [shard.with_name(f"{shard.name}.damaged{number}") for number in ("", "-2", "-3")]
    assert [path.read_bytes() for path in kept] == damaged


@pytest.mark.parametrize(
    ("step", "links"), [("link", True), ("replace", True), ("replace", False), ("unlink", True), ("unlink", False)]
)
def test_a_repair_that_is_killed_can_be_repeated(
    step: str, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right behind any change that it makes to the directory nothing sound is missing."""
    for times in itertools.count(1):
        directory = tmp_path / str(times)
        written = several_batches(directory)
        flip(only(directory, ".arrow"), index_of(directory).section(4)[1] - 1)
        left = [times]
        with monkeypatch.context() as patched:
            if not links:
                patched.setattr(os, "link", refuses)
            owner: Any = os if step == "link" else Path
            patched.setattr(owner, step, killed_after(getattr(owner, step), left))
            with contextlib.suppress(KilledError):
                repair_traces(directory)
        repair_traces(directory)
        assert assert_prefix(directory, written) == 6
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


def refuses(*_: Any) -> None:
    raise PermissionError("no links here")


def test_temporary_files_of_processes_that_were_killed(tmp_path: Path) -> None:
    written = several_batches(tmp_path)
    writer = only(tmp_path, ".json").stem
    leftovers = {f".{writer}.json.0123abcd.tmp", f".{writer}-000000.index.0123abcd.tmp", f".{writer}-000000.arrow.tmp"}
    others = {f"{writer}.json.tmp", ".other.json.0123abcd.tmp", f".{writer}.json"}
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
        with pytest.raises(ProtocolError, match=r"000000.arrow: expected no writer at work"):
            repair_traces(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        writer.append(of_space("box", 3, 1))
    assert repair_traces(tmp_path).trajectories == 2
