"""torch's real `DataLoader`s, with workers and in several processes."""

from __future__ import annotations

import builtins
import importlib
import socket
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from torch import distributed, multiprocessing
from torch.utils.data import DataLoader

from vecrollout import TraceWriter, TrajectoryBatch, open_traces
from vecrollout.errors import ArgumentTypeError, DtypeError, MissingDependencyError, OptionError, StateError
from vecrollout.interop.torch import BatchSampler, ItemDataset, ItemStream, Loader, data_loader
from vecrollout.testing import SPACES, batch_of
from vecrollout.testing.comparison import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines with few cores

LENGTHS = [3, 1, 7, 2, 10]
STEPS = sum(LENGTHS)


def batch(space: str = "box") -> TrajectoryBatch:
    return TrajectoryBatch.from_arrays(
        batch_of(SPACES[space], range(STEPS + len(LENGTHS))),
        np.arange(STEPS),
        np.arange(STEPS, dtype=np.float32),
        [{"t": t} for t in range(STEPS)],
        lengths=LENGTHS,
        terminated=np.array([True, False, True, False, False]),
    )


@pytest.fixture(params=[None, "zstd"])
def traces(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with TraceWriter(tmp_path, compression=request.param) as writer:
        writer.extend(batch())
    return open_traces(tmp_path)


def to_arrays(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: to_arrays(value) for key, value in tree.items()}
    return tuple(map(to_arrays, tree)) if isinstance(tree, tuple | list) else tree.numpy()


def drawn(loader: Any) -> list[list[int]]:
    """Which steps come, by the actions, which count them."""
    return [each["acts"].tolist() for each in loader]


@pytest.mark.parametrize("space", sorted(set(SPACES) - {"text"}))
def test_tensors_are_the_arrays(space: str) -> None:
    items = batch(space).steps()
    dataset = ItemDataset(items)
    assert len(dataset) == STEPS
    expected = items[[4, 0, 9]]
    for name, tensors in dataset[[4, 0, 9]].items():
        assert_same(to_arrays(tensors), getattr(expected, name), name)
    for name, tensors in dataset[4].items():
        assert_same(
            to_arrays(tensors),
            np.asarray(getattr(expected, name)[0])
            if isinstance(getattr(expected, name), np.ndarray)
            else getattr(expected, name)[0],
            name,
        )
    (whole,) = DataLoader(dataset, batch_size=STEPS)
    for name, tensors in whole.items():
        assert_same(to_arrays(tensors), getattr(items[:], name), name)


def test_rows_are_copied_once_out_of_an_uncompressed_trace(tmp_path: Path) -> None:
    """From the mapped file into the batch, whose memory the tensors share; trajectories are not copied at all."""
    frames = np.random.default_rng(0).integers(0, 256, (257, 128, 128), np.uint8)
    given = TrajectoryBatch.from_arrays(frames, np.arange(256), np.zeros(256), lengths=[256], terminated=[True])
    with TraceWriter(tmp_path, compression=None) as writer:
        writer.extend(given)
    items = open_traces(tmp_path).steps()
    loader = data_loader(items, 32, shuffle=False)
    first = next(iter(loader))
    tracemalloc.start()
    arrow = pyarrow.total_allocated_bytes()
    whole = open_traces(tmp_path)[0].obs
    assert tracemalloc.get_traced_memory()[0] < frames.nbytes // 4
    tracemalloc.reset_peak()
    count = sum(len(each["obs"]) for each in loader)
    # Two batches at a time: the one that is drawn, and the one before.
    assert tracemalloc.get_traced_memory()[1] < 8 * 32 * 128 * 128
    tracemalloc.stop()
    assert pyarrow.total_allocated_bytes() - arrow < frames.nbytes // 4
    assert count == 256
    assert_same(first["obs"].numpy(), frames[:32])
    assert_same(whole, frames)


def test_infos_are_there_where_they_were_read() -> None:
    assert "infos" not in ItemDataset(batch().steps())[[0]]
    assert ItemDataset(batch().steps(infos=True))[[3, 1]]["infos"] == [{"t": 3}, {"t": 1}]


def test_windows_and_n_step() -> None:
    windows = ItemDataset(batch().windows(4, pad="after", returns_to_go=0.9))[[0, 1]]
    assert set(windows) == {"obs", "acts", "rews", "terminated", "truncated", "mask", "timesteps", "returns_to_go"}
    assert windows["acts"].shape == (2, 4)
    assert "discounts" in ItemDataset(batch().n_step(3, 0.9))[[0, 1]]


def test_texts_make_no_tensors() -> None:
    with pytest.raises(DtypeError, match="obs"):
        ItemDataset(batch("text").steps())[0]


# A worker that is spawned takes seconds to start, so this one lives for both epochs.
SPAWNED = {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, SPAWNED], ids=["no workers", "forked", "spawned"])
def test_each_step_once_an_epoch(traces: Any, options: Any) -> None:
    loader = data_loader(traces.steps(), 4, **options)
    first, second = drawn(loader), drawn(loader)
    assert [len(each) for each in first] == [4, 4, 4, 4, 4, 3]
    for epoch in (first, second):
        assert sorted(i for each in epoch for i in each) == list(range(STEPS))
    assert first != second
    # Whatever reads them, the batches are the same.
    assert drawn(data_loader(traces.steps(), 4)) == first


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # without a GPU it changes nothing
def test_pinned() -> None:
    assert drawn(data_loader(batch().steps(), 4, pin_memory=True)) == drawn(data_loader(batch().steps(), 4))


def test_in_order() -> None:
    loader = data_loader(batch().steps(), 10, shuffle=False, drop_last=True)
    assert len(loader) == 2
    assert drawn(loader) == [list(range(10)), list(range(10, 20))]


WORKERS = {"num_workers": 2}
PERSISTENT = {"num_workers": 2, "persistent_workers": True}


@pytest.mark.parametrize(
    ("options", "block"),
    # The order is made before workers see any of it.
    [*(({}, block) for block in (None, 1, 2, 30)), (WORKERS, None), (WORKERS, 2), (PERSISTENT, None), (PERSISTENT, 2)],
)
def test_continues_after_any_batch(traces: Any, options: Any, block: int | None) -> None:
    def made(**options: Any) -> Loader:
        return data_loader(traces.steps(), 5, seed=3, block=block, **options)

    reference = made()
    batches = [each for _ in range(3) for each in reference]
    for stop in range(11) if not options else (0, 1, 5, 7):
        loader = made(**options)
        seen: list[Any] = []
        while len(seen) < stop:
            for each in loader:
                seen.append(each)
                if len(seen) == stop:
                    break
        state = loader.state_dict()
        del loader
        resumed = made(**options)
        resumed.load_state_dict(state)
        seen += [each for _ in range(2) for each in resumed]
        assert len(seen) >= 10
        for ours, theirs in zip(seen, batches, strict=False):
            for name in theirs:
                assert torch.equal(ours[name], theirs[name])


def test_an_epoch_that_was_broken_off_is_over() -> None:
    loader = data_loader(batch().steps(), 5)
    next(iter(loader))
    other = data_loader(batch().steps(), 5)
    list(other)
    assert drawn(loader) == drawn(other)


def test_sampler_in_a_plain_loader(traces: Any) -> None:
    dataset, sampler = ItemDataset(traces.steps()), BatchSampler(traces.steps(), 5)
    loader = DataLoader(dataset, batch_size=None, sampler=sampler)
    whole = drawn(loader)
    assert sorted(i for each in whole for i in each) == list(range(STEPS))
    sampler.set_epoch(0)
    for i, _ in enumerate(loader):
        if i == 1:
            break
    state = sampler.state_dict()
    again = BatchSampler(traces.steps(), 5)
    again.load_state_dict(state)
    assert drawn(DataLoader(dataset, batch_size=None, sampler=again, num_workers=2)) == whole[2:]
    assert again.state_dict(batches=4) == {**state, "batch": 4}


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_stream_is_shared_by_workers(traces: Any, workers: int) -> None:
    sampler = BatchSampler(traces.steps(), 5, seed=1)
    stream = ItemStream(traces.steps(), sampler)
    assert len(stream) == 5
    expected = data_loader(traces.steps(), 5, seed=1)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        whole = drawn(DataLoader(stream, batch_size=None, num_workers=workers))
        assert whole == drawn(expected)
    sampler.set_epoch(1)
    sampler.load_state_dict(sampler.state_dict(batches=2))
    assert drawn(DataLoader(stream, batch_size=None, num_workers=workers)) == whole[2:]


def test_persistent_workers_of_a_stream_count_epochs(traces: Any) -> None:
    stream = ItemStream(traces.steps(), BatchSampler(traces.steps(), 5))
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    expected = data_loader(traces.steps(), 5)
    assert [drawn(loader) for _ in range(3)] == [drawn(expected) for _ in range(3)]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("items", [0, 1, 7, 23, 24, 25])
@pytest.mark.parametrize("block", [None, 1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_an_epoch(world: int, items: int, block: int | None, shuffle: bool, drop_last: bool) -> None:
    samplers = [
        BatchSampler(range(items), 2, shuffle=shuffle, block=block, drop_last=drop_last, rank=rank, world_size=world)
        for rank in range(world)
    ]
    epochs = [list(each) for each in samplers]
    assert [len(each) for each in epochs] == [len(each) for each in samplers]
    assert all(1 <= len(each) <= 2 for epoch in epochs for each in epoch)
    counts = Counter(int(i) for epoch in epochs for each in epoch for i in each)
    assert set(counts.values()) <= {1}
    assert set(counts) <= set(range(items))
    assert len(counts) == (items // (2 * world) * 2 * world if drop_last else items)
    lengths = {len(epoch) for epoch in epochs}
    assert max(lengths) - min(lengths) <= (0 if drop_last else 1)


def test_blocks_keep_items_together() -> None:
    order = np.concatenate(list(BatchSampler(range(10_000), 100, block=10)))
    assert sorted(order) == list(range(10_000))
    # 160 items at a time, of 16 blocks.
    begins = {int((item - order.min()) // 10) for item in order[:160]}
    assert len(begins) <= 33
    assert len(set(np.diff(order[:160]))) > 20


def _rank(rank: int, path: str, port: int, queue: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        loader = data_loader(open_traces(path).steps(), 3, num_workers=1)
        epochs = [drawn(loader), drawn(loader)]
        gathered: list[Any] = [None, None]
        distributed.all_gather_object(gathered, epochs)
        if rank == 0:
            queue.put(gathered)
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_an_epoch(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.extend(batch())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(rank, str(tmp_path), port, queue)) for rank in range(2)]
    for each in processes:
        each.start()
    both = queue.get(timeout=120)
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    for epoch in range(2):
        assert sorted(i for ranks in both for each in ranks[epoch] for i in each) == list(range(STEPS))
    assert both[0][0] != both[0][1]


def test_bad_arguments() -> None:
    with pytest.raises(OptionError, match="batch_size"):
        BatchSampler(range(4), 0)
    with pytest.raises(OptionError, match="rank"):
        BatchSampler(range(4), 2, rank=2, world_size=2)
    with pytest.raises(OptionError, match="neither"):
        BatchSampler(range(4), 2, rank=0)
    with pytest.raises(OptionError, match="block"):
        BatchSampler(range(4), 2, block=0)
    with pytest.raises(OptionError, match="epoch"):
        BatchSampler(range(4), 2).set_epoch(-1)
    with pytest.raises(OptionError, match="batches"):
        BatchSampler(range(4), 2).state_dict(-1)
    with pytest.raises(ArgumentTypeError, match="batch_size"):
        BatchSampler(range(4), 2.5)  # type: ignore[arg-type]


def test_states_of_others_are_refused() -> None:
    state = BatchSampler(range(4), 2).state_dict()
    for other in (BatchSampler(range(5), 2), BatchSampler(range(4), 2, seed=1), BatchSampler(range(4), 2, block=1)):
        with pytest.raises(StateError, match="another order"):
            other.load_state_dict(state)
    for bad in ({}, None, {**state, "more": 1}):
        with pytest.raises(StateError, match="expected a state"):
            BatchSampler(range(4), 2).load_state_dict(bad)  # type: ignore[arg-type]


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "vecrollout.interop.torch")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match="pip install torch"):
        importlib.import_module("vecrollout.interop.torch")
