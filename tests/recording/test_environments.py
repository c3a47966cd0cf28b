"""Environments of the wrong kind are refused by name, with what to take instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    TraceRecordingWrapper,
    VectorBufferingWrapper,
    record_traces,
)
from vecrollout.errors import ArgumentTypeError
from vecrollout.testing import CountingEnv


def of_sb3() -> VecMonitor:
    return VecMonitor(DummyVecEnv([CountingEnv]))


def vector() -> gym.vector.SyncVectorEnv:
    return gym.vector.SyncVectorEnv([CountingEnv])


@pytest.mark.parametrize(
    ("wrapper", "wrong"),
    [
        (BufferingWrapper, {"CountingEnv.* BufferingEnvWrapper": CountingEnv, "SyncVectorEnv.* Vector": vector}),
        (VectorBufferingWrapper, {"CountingEnv.* BufferingEnv": CountingEnv, "VecMonitor.* BufferingWrapper": of_sb3}),
        (BufferingEnvWrapper, {"SyncVectorEnv.* Vector": vector, "VecMonitor.* BufferingWrapper": of_sb3}),
        (TraceRecordingWrapper, {"SyncVectorEnv.* Vector": vector, "VecMonitor.* BufferingWrapper": of_sb3}),
    ],
)
def test_of_another_kind(wrapper: Any, wrong: dict[str, Any]) -> None:
    for message, make in wrong.items():
        with pytest.raises(ArgumentTypeError, match=f"^env: expected .*, got {message}"):
            wrapper(make())


@pytest.mark.parametrize("wrapper", [BufferingWrapper, VectorBufferingWrapper, BufferingEnvWrapper, record_traces])
@pytest.mark.parametrize(
    ("thing", "cure"),
    [
        ("CartPole-v1", r"; make the environment first: gymnasium\.make\('CartPole-v1'\)"),
        (CountingEnv, "; call it first, and pass the environment that it makes"),
        (DummyVecEnv, "; call it first, and pass the environment that it makes"),
        (lambda: CountingEnv(), "; call it first, and pass the environment that it makes"),
        (None, ""),
        ([CountingEnv], ""),
    ],
)
def test_no_environment(wrapper: Any, thing: Any, cure: str, tmp_path: Path) -> None:
    options = [tmp_path / "traces"] if wrapper is record_traces else []
    with pytest.raises(ArgumentTypeError, match=f"^env: expected .*, got {type(thing).__name__}{cure}$"):
        wrapper(thing, *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrapper", "make"),
    [(BufferingWrapper, of_sb3), (VectorBufferingWrapper, vector), (BufferingEnvWrapper, CountingEnv)],
)
def test_no_sink(wrapper: Any, make: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^sink: expected .*append.* got str"):
        wrapper(make(), sink="traces")
