"""Random steps and windows out of traces, beside NumPy, torchrl, Minari and `datasets`."""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.episodes import ATARI, Episodes, atari, cartpole, trajectories_of
from benchmarks.options import Options
from benchmarks.report import Table, at_most, number
from benchmarks.timing import Phases, Stopwatch, fastest

_AIM = 3
"""Most times NumPy's time, of a trace without compression."""
_STEPS, _WINDOWS, _LENGTH = 256, 64, 32
_CARTPOLE = "CartPole"
_NUMPY, _MEMORY, _MAPPED, _ZSTD = "NumPy", "in memory", "trace", "zstd"
_TORCHRL, _MINARI, _DATASETS, _D3RLPY = "torchrl", "Minari", "datasets", "d3rlpy"
_PEERS = _TORCHRL, _MINARI, _DATASETS, _D3RLPY
_MINARI_EPISODES = 500

Draws = dict[str, Callable[[], Any]]
"""Functions that draw steps and windows."""


def sampling_tables(options: Options) -> list[Table]:
    """Time of a batch of steps, and of windows."""
    cases = {
        _CARTPOLE: cartpole(options.scaled(10_000), 100),
        ATARI: atari(options.scaled(40, 2), 500 if not options.is_quick else 50),
    }
    return [
        Table(
            "Sampling",
            ("", "batch", "NumPy, us", *(f"{who}, x NumPy" for who in (_MEMORY, _MAPPED, _ZSTD, *_PEERS))),
            [row for name, episodes in cases.items() for row in _rows(name, episodes, options)],
            f"{_STEPS} random steps with their next observations, and {_WINDOWS} random windows of {_LENGTH} steps; "
            "cached files. NumPy indexes arrays in memory. A `TrajectoryBatch` in memory, a trace without compression, "
            "and one with zstd; torchrl's memmap storage; Minari, which reads whole episodes, with flat observations "
            "and at most 500 episodes; `datasets` from its own Arrow files; d3rlpy's replay buffer in memory, if it is "
            "installed (its wheel replaces Gymnasium by 1.0.0: install the newest again).",
        )
    ]


def _rows(name: str, episodes: Episodes, options: Options) -> list[tuple[str, ...]]:
    contenders = {_NUMPY: _numpy(episodes), **_ours(episodes)}
    for who, make in ((_TORCHRL, _torchrl), (_MINARI, _minari), (_DATASETS, _datasets), (_D3RLPY, _d3rlpy)):
        if find_spec(who.lower()):
            contenders[who] = make(episodes)
    calls = {who: 1 if who in (_MINARI, _D3RLPY) or (who == _ZSTD and name == ATARI) else 20 for who in contenders}
    rows = []
    for what, label in (("steps", f"{_STEPS} steps"), ("windows", f"{_WINDOWS} windows of {_LENGTH}")):
        timed = {who: partial(_timed, draws[what], calls[who]) for who, draws in contenders.items()}
        us = {who: phases["us"] for who, phases in fastest(timed, options.runs).items()}
        limit = us.pop(_NUMPY)
        ratios = {who: each / limit for who, each in us.items()}
        ours = [at_most(ratios[who], _AIM if who != _ZSTD else None) for who in (_MEMORY, _MAPPED, _ZSTD)]
        rows.append((name, label, number(limit), *ours, *(number(ratios.get(who)) for who in _PEERS)))
    return rows


def _timed(draw: Callable[[], Any], calls: int) -> Phases:
    watch = Stopwatch(time.perf_counter)
    with watch.phase("us"):
        for _ in range(calls):
            draw()
    return {"us": watch.phases["us"] / calls * 1e6}


def _numpy(episodes: Episodes) -> Draws:
    obs, acts, rews = map(np.concatenate, (episodes.obs, episodes.acts, episodes.rews))
    lengths = np.array([len(each) for each in episodes.acts])
    ends = np.cumsum(lengths)
    dones = np.zeros(len(acts), bool)
    dones[ends - 1] = True
    row = np.arange(len(acts)) + np.repeat(np.arange(len(lengths)), lengths)
    starts = np.concatenate(
        [np.arange(end - length, end - _LENGTH + 1) for end, length in zip(ends, lengths, strict=True)]
    )
    rng = np.random.default_rng(0)

    def steps() -> Any:
        at = rng.integers(len(acts), size=_STEPS)
        return obs[row[at]], acts[at], rews[at], obs[row[at] + 1], dones[at]

    def windows() -> Any:
        at = starts[rng.integers(len(starts), size=_WINDOWS)][:, None] + np.arange(_LENGTH)
        return obs[row[at]], acts[at], rews[at], dones[at]

    return {"steps": steps, "windows": windows}


def _ours(episodes: Episodes) -> dict[str, Draws]:
    from vecrollout import TraceWriter, TrajectoryBatch, open_traces

    trajectories = trajectories_of(episodes)
    sources: dict[str, Any] = {_MEMORY: TrajectoryBatch.from_trajectories(trajectories)}
    for who, compression in ((_MAPPED, None), (_ZSTD, "zstd")):
        directory = _directory()
        with TraceWriter(directory, compression=compression) as writer:
            for each in trajectories:
                writer.append(each)
        sources[who] = open_traces(directory)
    rng = np.random.default_rng(0)
    return {
        who: {
            "steps": partial(source.sample_transitions, _STEPS, rng),
            "windows": partial(source.sample_windows, _LENGTH, _WINDOWS, rng),
        }
        for who, source in sources.items()
    }


def _torchrl(episodes: Episodes) -> Draws:
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyMemmapStorage, SliceSampler, TensorDictReplayBuffer

    logging.getLogger("torchrl").setLevel(logging.WARNING)
    total = episodes.steps
    buffers = [
        TensorDictReplayBuffer(storage=LazyMemmapStorage(total, scratch_dir=_directory()), batch_size=_STEPS),
        TensorDictReplayBuffer(
            storage=LazyMemmapStorage(total, scratch_dir=_directory()),
            sampler=SliceSampler(slice_len=_LENGTH, traj_key="episode", cache_values=True),
            batch_size=_WINDOWS * _LENGTH,
        ),
    ]
    for number_, (obs, acts, rews) in enumerate(zip(episodes.obs, episodes.acts, episodes.rews, strict=True)):
        rows = torch.from_numpy(obs.copy())
        done = torch.zeros(len(acts), 1, dtype=torch.bool)
        done[-1] = True
        following = {"obs": rows[1:], "reward": torch.from_numpy(rews.copy())[:, None], "done": done}
        whole = {"obs": rows[:-1], "action": torch.from_numpy(acts.copy()), "next": following}
        buffers[0].extend(TensorDict(whole, [len(acts)]))
        following = {name: value for name, value in following.items() if name != "obs"}
        episode = torch.full((len(acts),), number_)
        buffers[1].extend(TensorDict({**whole, "next": following, "episode": episode}, [len(acts)]))
    return {"steps": buffers[0].sample, "windows": buffers[1].sample}


def _minari(episodes: Episodes) -> Draws:
    os.environ["MINARI_DATASETS_PATH"] = _directory()
    import gymnasium as gym
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    # Of images, Minari keeps JPEGs. A read takes as long with more episodes, but they take minutes to write.
    flat = [obs.reshape(len(obs), -1) for obs in episodes.obs[:_MINARI_EPISODES]]
    space = gym.spaces.Box(0, 255, flat[0].shape[1:], flat[0].dtype)
    buffers = [
        EpisodeBuffer(
            observations=obs,
            actions=acts,
            rewards=rews,
            terminations=np.arange(len(acts)) == len(acts) - 1,
            truncations=np.zeros(len(acts), bool),
            infos={},
        )
        for obs, acts, rews in zip(flat, episodes.acts, episodes.rews, strict=False)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = minari.create_dataset_from_buffers(
            "benchmark/sampling-v0",
            buffers,
            observation_space=space,
            action_space=gym.spaces.Discrete(int(max(map(np.max, episodes.acts))) + 1),
            data_format="arrow",
        )
    rng = np.random.default_rng(0)
    length = len(episodes.acts[0])

    def read(count: int, width: int) -> Any:
        chosen = rng.integers(len(flat), size=count)
        at = rng.integers(length - width + 1, size=count)
        whole = {each.id: each for each in dataset.iterate_episodes(sorted(set(chosen.tolist())))}
        return [
            np.stack([getattr(whole[i], name)[t : t + width + extra] for i, t in zip(chosen.tolist(), at, strict=True)])
            for name, extra in (("observations", 1), ("actions", 0), ("rewards", 0), ("terminations", 0))
        ]

    return {"steps": partial(read, _STEPS, 1), "windows": partial(read, _WINDOWS, _LENGTH)}


def _datasets(episodes: Episodes) -> Draws:
    import pyarrow as pa

    import datasets

    length = len(episodes.acts[0])
    width = int(np.prod(episodes.obs[0].shape[1:]))
    directory = _directory()
    last = np.arange(length + 1) == length - 1
    tables = [
        pa.table(
            {
                "obs": pa.FixedSizeListArray.from_arrays(pa.array(obs.reshape(-1)), width),
                "acts": pa.array(np.append(acts, 0)),
                "rews": pa.array(np.append(rews, 0).astype(rews.dtype)),
                "dones": pa.array(last),
            }
        )
        for obs, acts, rews in zip(episodes.obs, episodes.acts, episodes.rews, strict=True)
    ]
    datasets.disable_progress_bars()
    datasets.Dataset(pa.concat_tables(tables).combine_chunks()).save_to_disk(directory)
    rows = datasets.load_from_disk(directory).with_format("numpy")
    rng = np.random.default_rng(0)

    def read(count: int, wide: int) -> Any:
        first = rng.integers(len(tables), size=count) * (length + 1) + rng.integers(length - wide + 1, size=count)
        # Each window with the observation behind it.
        return rows[(first[:, None] + np.arange(wide + 1)).reshape(-1)]

    return {"steps": partial(read, _STEPS, 1), "windows": partial(read, _WINDOWS, _LENGTH)}


def _d3rlpy(episodes: Episodes) -> Draws:
    import d3rlpy

    buffer = d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=[
            d3rlpy.dataset.Episode(obs[:-1], acts[:, None], rews[:, None], terminated=True)
            for obs, acts, rews in zip(episodes.obs, episodes.acts, episodes.rews, strict=True)
        ],
    )
    return {
        "steps": partial(buffer.sample_transition_batch, _STEPS),
        "windows": partial(buffer.sample_trajectory_batch, _WINDOWS, _LENGTH),
    }


def _directory() -> str:
    directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    return str(Path(directory.name))
