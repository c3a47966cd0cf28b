"""Seeds that depend on nothing but the collection's seed and the place."""

from __future__ import annotations

import numpy as np

from vecrollout.distributed.order import Place

_ENVS, _POLICY = range(2)


def first_seed(place: Place, num_envs: int) -> int:
    """The seed of a worker's first environment; the others have the following numbers, which no other worker has."""
    (drawn,) = np.random.SeedSequence(place.seed, spawn_key=(_ENVS,)).generate_state(1, np.uint32)
    # 30 bits: the sum has 31, as some environments take C integers.
    return (int(drawn) >> 2) + (place.incarnation * place.num_workers + place.worker) * num_envs


def policy_rng(place: Place) -> np.random.Generator:
    """The generator of a worker's policy."""
    sequence = np.random.SeedSequence(place.seed, spawn_key=(_POLICY, place.worker, place.incarnation))
    return np.random.default_rng(sequence)
