"""Infos as vector environments batch them, told apart again."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from vector_envs import MODES, sync_env

from vecrollout import VectorBufferingWrapper
from vecrollout.buffer import BatchedInfos, InfoCopier, info_of
from vecrollout.testing import CountingEnv, EpisodeScript
from vecrollout.testing.comparison import assert_same


def mask(*flags: int) -> Any:
    return np.array(flags, dtype=bool)


def batch_of_three() -> dict[str, Any]:
    texts = np.array(["a", None, "c"], dtype=object)
    arrays = np.array([np.arange(2), None, np.arange(3)], dtype=object)
    return {
        "number": np.array([1.5, 0, 2.5], np.float32),
        "_number": mask(1, 0, 1),
        "everybodys": np.array([7, 8, 9]),
        "vector": np.arange(6).reshape(3, 2),
        "_vector": mask(1, 1, 0),
        "text": texts,
        "_text": mask(1, 0, 1),
        "array": arrays,
        "_array": mask(1, 0, 1),
        "nested": {"r": np.array([0, 3.0, 0]), "_r": mask(0, 1, 0), "l": np.array([0, 3, 0]), "_l": mask(0, 1, 0)},
        "_nested": mask(1, 1, 0),
        "shared": np.arange(5),
        "version": "1.0",
        "_own": mask(1, 1, 1),
    }


EXPECTED: list[dict[str, Any]] = [
    {
        "number": np.float32(1.5),
        "everybodys": np.int64(7),
        "vector": np.array([0, 1]),
        "text": "a",
        "array": np.arange(2),
        "nested": {},
        "shared": np.arange(5),
        "version": "1.0",
        "_own": np.True_,
    },
    {
        "everybodys": np.int64(8),
        "vector": np.array([2, 3]),
        "nested": {"r": np.float64(3), "l": np.int64(3)},
        "shared": np.arange(5),
        "version": "1.0",
        "_own": np.True_,
    },
    {
        "number": np.float32(2.5),
        "everybodys": np.int64(9),
        "text": "c",
        "array": np.arange(3),
        "shared": np.arange(5),
        "version": "1.0",
        "_own": np.True_,
    },
]


def assert_infos(infos: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(infos) == len(expected)
    for info, wanted in zip(infos, expected, strict=True):
        assert list(info) == list(wanted)
        for key, value in wanted.items():
            assert type(info[key]) is type(value), key
            if isinstance(value, dict):
                assert_infos([info[key]], [value])
            elif isinstance(value, np.ndarray):
                assert_same(info[key], value)
            else:
                assert info[key] == value


def test_told_apart() -> None:
    infos = BatchedInfos(batch_of_three(), 3)
    assert len(infos) == 3
    assert_infos(list(infos), EXPECTED)
    assert_infos([infos[env] for env in range(3)], EXPECTED)
    assert_infos([info_of(batch_of_three(), env, 3) for env in range(3)], EXPECTED)


def test_none_at_all() -> None:
    infos = list(BatchedInfos({}, 2))
    assert infos == [{}, {}]
    assert infos[0] is not infos[1]


def test_some_keys() -> None:
    infos = BatchedInfos(batch_of_three(), 3, ["vector", "number", "absent"])
    expected = [{key: info[key] for key in ("vector", "number") if key in info} for info in EXPECTED]
    assert_infos(list(infos), expected)


def test_copied_at_once() -> None:
    batch = batch_of_three()
    infos = BatchedInfos(batch, 3)
    for value in (batch["number"], batch["vector"], batch["_vector"], batch["nested"]["r"], batch["shared"]):
        value[...] = 0
    assert_infos(list(infos), EXPECTED)


def test_no_two_infos_share_memory() -> None:
    first, second, _ = BatchedInfos(batch_of_three(), 3)
    first["vector"][:] = first["shared"][:] = 99
    assert second["vector"].tolist() == [2, 3]
    assert second["shared"].tolist() == [0, 1, 2, 3, 4]


PLAIN = {"number": np.arange(3.0), "_number": mask(1, 1, 1), "count": np.arange(3)}
STEPS: list[dict[str, Any]] = [
    PLAIN,
    PLAIN,
    {**PLAIN, "_number": mask(1, 0, 1)},
    PLAIN,
    {"count": np.arange(3), "number": np.arange(3.0)},
    {**PLAIN, "count": np.arange(3, dtype=np.int8)},
    {**PLAIN, "count": np.arange(6).reshape(3, 2)},
    {},
    batch_of_three(),
    {**PLAIN, "_number": [True, False, True]},
    {**PLAIN, "_number": np.array([1, 0, 1])},
    {**PLAIN, "count": 3},
    PLAIN,
]


@pytest.mark.parametrize("keys", [None, ["number"], ["_number"], ["count", "absent"], []])
def test_step_after_step(keys) -> None:
    """Whatever the infos of the step before were made of."""
    copier = InfoCopier(keys)
    for batch in STEPS:
        given = copy.deepcopy(batch)
        copied = copier.copied(given, 3)
        for value in given.values():
            if isinstance(value, np.ndarray):
                value.fill(0)
        assert_infos(list(copied), list(BatchedInfos(batch, 3, keys)))
        assert_infos([copied[env] for env in range(3)], list(BatchedInfos(batch, 3, keys)))


@pytest.mark.parametrize("mode", MODES)
def test_an_environments_own_keys(mode) -> None:
    class Sometimes(CountingEnv):
        def step(self, action):
            *step, info = super().step(action)
            return (*step, {**info, "odd": np.arange(2) + info["t"]} if info["t"] % 2 else info)

    env = VectorBufferingWrapper(sync_env([lambda: Sometimes(episodes=[EpisodeScript(9)])] * 2, mode))
    env.reset()
    for _ in range(4):
        env.step(np.zeros(2, int))
    for trajectory in env.pop_trajectories()[0]:
        assert [list(info) for info in trajectory.infos] == [["t", "odd"], ["t"], ["t", "odd"], ["t"]]
        assert trajectory.infos[2]["odd"].tolist() == [3, 4]
