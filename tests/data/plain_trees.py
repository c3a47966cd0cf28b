"""Strategies for plain dicts and tuples of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def trees(draw: st.DrawFn, *, leaves: st.SearchStrategy[Any]) -> Any:
    """Plain trees (or leaves)."""
    return draw(
        st.recursive(
            leaves,
            lambda child: st.one_of(
                st.dictionaries(st.text(max_size=2), child, min_size=1, max_size=3),
                st.lists(child, min_size=1, max_size=3).map(tuple),
            ),
            max_leaves=5,
        )
    )


@st.composite
def batches(draw: st.DrawFn) -> Any:
    """Plain trees (or arrays) with one first dimension."""
    rows = draw(st.integers(0, 4))
    shapes = st.lists(st.integers(0, 3), max_size=2).map(lambda shape: (rows, *shape))
    dtypes = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_])
    arrays = st.builds(lambda shape, dtype: np.arange(np.prod(shape)).reshape(shape).astype(dtype), shapes, dtypes)
    return draw(trees(leaves=arrays))
