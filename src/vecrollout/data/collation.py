"""Batches of tensors for torch's `DataLoader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vecrollout.data.trees import stack, unwrap
from vecrollout.errors import MissingDependencyError


def collate_transitions(batch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one batch of tensors out of single steps: a `collate_fn` for torch's `DataLoader`.

    torch's own cannot join infos whose keys differ from step to step, as those of a vector environment do.

    Args:
        batch: B steps, as integer indices into transitions give them.

    Returns:
        A dict with the same keys: tensors of shape `(B, ...)`, dicts or tuples of tensors for Dict and Tuple
        observations, and `"infos"` as a list of B dicts. The tensors have the arrays' own dtypes.

    Raises:
        MissingDependencyError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("collate_transitions needs torch: pip install torch") from error

    def to_tensors(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: to_tensors(value) for key, value in tree.items()}
        return tuple(map(to_tensors, tree)) if isinstance(tree, tuple) else torch.as_tensor(tree)

    def joined(name: str) -> Any:
        values = [step[name] for step in batch]
        return values if name == "infos" else to_tensors(unwrap(stack(values, name)))

    return {name: joined(name) for name in batch[0]}
