"""Seeds that depend on nothing but the collection's seed and the place."""

from __future__ import annotations

import numpy as np

from vecrollout.distributed.order import Place

_ENVS, _POLICY = range(2)


def env_seeds(place: Place, num_envs: int) -> list[int]:
    """A seed for each environment of a worker."""
    sequence = np.random.SeedSequence(place.seed, spawn_key=(place.worker, place.incarnation, _ENVS))
    # 31 bits, as some environments take C integers.
    return [int(word) >> 1 for word in sequence.generate_state(num_envs, np.uint32)]


def policy_rng(place: Place) -> np.random.Generator:
    """The generator of a worker's policy."""
    sequence = np.random.SeedSequence(place.seed, spawn_key=(place.worker, place.incarnation, _POLICY))
    return np.random.default_rng(sequence)
