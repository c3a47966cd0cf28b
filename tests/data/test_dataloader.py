"""Real torch `DataLoader`s over transitions."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate, random_split

from vecrollout import TransitionsMinimal, TransitionsWithRew, collate_transitions
from vecrollout.errors import MissingDependencyError
from vecrollout.testing import SPACES, batch_of
from vecrollout.testing.comparison import assert_same

STEPS = 10
# Texts make no tensors.
TENSOR_SPACES = sorted(set(SPACES) - {"text"})

UNIFORM = [{"t": t, "TimeLimit.truncated": False} for t in range(STEPS)]
MIXED = [{"t": t, **({"terminal_observation": np.zeros(3)} if t == 4 else {})} for t in range(STEPS)]


def transitions(space: str = "box", infos: Any = UNIFORM) -> TransitionsWithRew:
    return TransitionsWithRew(
        obs=batch_of(SPACES[space], range(STEPS)),
        acts=np.arange(STEPS),
        infos=infos,
        next_obs=batch_of(SPACES[space], range(1, STEPS + 1)),
        dones=np.arange(STEPS) % 5 == 4,
        rews=np.arange(STEPS, dtype=np.float32),
    )


def to_arrays(tree: Any) -> Any:
    """A batch with arrays in the place of tensors."""
    if isinstance(tree, dict):
        return {key: to_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return tuple(map(to_arrays, tree))
    assert isinstance(tree, torch.Tensor)
    return tree.numpy()


def assert_is(batch: Any, part: TransitionsWithRew) -> None:
    """All fields but the infos, whose form depends on how the batch was made."""
    for name in ("obs", "acts", "next_obs", "dones", "terminated", "truncated", "rews"):
        assert_same(to_arrays(batch[name]), getattr(part, name), name)


@pytest.mark.parametrize("space", TENSOR_SPACES)
class TestBatches:
    def test_by_torchs_own_collation(self, space: str) -> None:
        whole = transitions(space)
        batches = list(DataLoader(whole, batch_size=4))
        assert len(batches) == 3
        for i, batch in enumerate(batches):
            part = whole[4 * i : 4 * i + 4]
            assert_is(batch, part)
            assert batch["infos"]["t"].tolist() == [info["t"] for info in part.infos]

    def test_by_ours(self, space: str) -> None:
        whole = transitions(space, MIXED)
        for i, batch in enumerate(DataLoader(whole, batch_size=4, collate_fn=collate_transitions)):
            part = whole[4 * i : 4 * i + 4]
            assert_is(batch, part)
            assert all(a is b for a, b in zip(batch["infos"], part.infos, strict=True))

    def test_our_collation_takes_steps_of_any_origin(self, space: str) -> None:
        whole = transitions(space, MIXED)
        assert_is(collate_transitions([whole[i] for i in range(3)]), whole[:3])
        assert_is(collate_transitions(list(whole[2:5])), whole[2:5])

    def test_shuffled_every_step_comes_once(self, space: str) -> None:
        whole = transitions(space)
        seen = []
        for batch in DataLoader(whole, batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(1)):
            picked = batch["acts"].tolist()
            assert_is(batch, whole[picked])
            seen += picked
        assert sorted(seen) == list(range(STEPS))
        assert seen != sorted(seen)

    def test_of_parts(self, space: str) -> None:
        """Of read-only views too, of which torch would warn."""
        whole = transitions(space)
        first, second = random_split(whole, [4, 6], torch.Generator().manual_seed(1))
        picked = list(first.indices)
        assert_is(next(iter(DataLoader(first, batch_size=4))), whole[picked])
        assert sorted([*picked, *second.indices]) == list(range(STEPS))
        assert_is(next(iter(DataLoader(whole[5:], batch_size=3))), whole[5:8])
        assert_is(next(iter(DataLoader(Subset(whole[5:], [0, 2]), batch_size=3))), whole[[5, 7]])

    def test_without_batches(self, space: str) -> None:
        whole = transitions(space)
        steps = list(DataLoader(whole, batch_size=None, collate_fn=lambda step: step))
        assert len(steps) == STEPS
        for step, expected in zip(steps, whole, strict=True):
            assert_same(step, expected)


def test_several_data_sets() -> None:
    whole = transitions()
    joined: ConcatDataset[Any] = ConcatDataset([whole[:4], whole[4:]])
    assert_is(next(iter(DataLoader(joined, batch_size=STEPS))), whole)


def test_in_worker_processes() -> None:
    whole = transitions("dict", MIXED)
    loader: Any = DataLoader(
        whole, batch_size=5, num_workers=1, collate_fn=collate_transitions, multiprocessing_context="spawn"
    )
    for i, batch in enumerate(loader):
        assert_is(batch, whole[5 * i : 5 * i + 5])
        assert [info["t"] for info in batch["infos"]] == list(range(5 * i, 5 * i + 5))


def test_without_infos_torchs_own_collation_does() -> None:
    (batch,) = DataLoader(transitions("nested", None), batch_size=STEPS)
    assert batch["infos"] == {}
    assert_is(batch, transitions("nested"))


def test_minimal_transitions() -> None:
    whole = TransitionsMinimal(np.zeros((4, 2)), np.arange(4), None)  # type: ignore[arg-type]
    (batch,) = DataLoader(whole, batch_size=4)
    assert batch.keys() == {"obs", "acts", "infos"}
    assert batch["obs"].dtype == torch.float64


def test_the_whole_as_a_list_of_steps() -> None:
    whole = transitions("dict")
    assert_is(default_collate(whole.__getitems__(range(STEPS))), whole)


def test_a_batch_does_not_share_memory() -> None:
    whole = transitions()
    (batch,) = DataLoader(whole, batch_size=STEPS, collate_fn=collate_transitions)
    batch["obs"].zero_()
    assert whole == transitions()


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_torch(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(MissingDependencyError, match="pip install torch"):
        collate_transitions([transitions()[0]])
