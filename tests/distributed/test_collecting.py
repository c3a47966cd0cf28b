"""Rounds and streams on a real cluster."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.compute as pc
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from ticking import Numbered, Ticking, check_all, length_of

from vecrollout import TraceDataset, open_traces, verify_traces
from vecrollout.distributed import Collector, PolicyHandle, collect
from vecrollout.errors import OptionError, ProtocolError

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def workers(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Two workers of three environments. To start a worker takes some seconds."""
    with Collector(
        Ticking, tmp_path_factory.mktemp("shared"), num_workers=2, num_envs=3, seed=5, chunk_s=0.1
    ) as collector:
        yield collector


def table(dataset: Any) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = dataset.to_arrow().to_pydict()
    return columns


def content(dataset: Any) -> list[Any]:
    return [(each.obs.tolist(), each.acts.tolist(), each.rews.tolist(), each.episode.ended_by) for each in dataset]


@pytest.mark.parametrize("steps", [240, 121, 3])
def test_rounds_of_steps_are_exact(workers: Collector, steps: int) -> None:
    rounds = [workers.collect(Numbered(number), steps=steps) for number in range(3)]
    assert [each.total_steps for each in rounds] == [steps] * 3
    check_all(each for data in rounds for each in data)
    for number, data in enumerate(rounds):
        assert {int(act) for each in data for act in each.acts} == {number}
        assert len({*table(data)["policy_version"]}) == len({*table(data)["round"]}) == 1
        assert set(table(data)["worker"]) <= {0, 1}
    numbers = [table(data)["round"][0] for data in rounds]
    assert numbers == [*range(numbers[0], numbers[0] + 3)]
    # Everything in the directory.
    of_rounds = open_traces(workers.directory).filter(pc.field("round").isin(numbers))
    assert of_rounds.total_steps == 3 * steps
    if steps % 3 == 0 and steps > 3:  # nothing is cut, so that episodes go on from round to round
        whole = of_rounds.whole_episodes()
        assert {len(each) for each in whole if each.terminated or each.truncated} > {3, 4, 5}
        assert all(len(each) == length_of(int(each.obs[0, 0])) for each in whole)


def test_the_same_seed_makes_the_same_rounds(tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        with Collector(Ticking, tmp_path / name, num_workers=2, num_envs=3, seed=7, chunk_s=0.01) as collector:
            runs.append(
                [
                    content(collector.collect(None, steps=100)),
                    content(collector.collect(None, episodes=20)),
                    content(collector.collect(None, steps=60)),
                ]
            )
    assert runs[0] == runs[1]


@pytest.fixture(scope="module")
def collected(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> TraceDataset:
    """One round, which two workers of ten environments share, and which they do not fill."""
    return collect(Ticking, None, tmp_path_factory.mktemp("once"), steps=395, num_workers=2, num_envs=10, seed=3)


def test_every_environment_has_a_seed_of_its_own(collected: TraceDataset) -> None:
    seeds = [seed for seed in table(collected)["seed"] if seed is not None]
    assert len(set(seeds)) == 20
    first_numbers = {each.obs[0, 0] for each in collected if each.episode.seed is not None}
    assert len(first_numbers) == 20
    for each in collected:
        if each.episode.seed is not None:
            env = Ticking()
            assert env.reset(seed=each.episode.seed)[0].tolist() == each.obs[0].tolist()


def test_the_last_round_ends_running_episodes(collected: TraceDataset) -> None:
    assert collected.total_steps == 395
    check_all(collected)
    ended = {}
    for row, each in zip(collected.to_arrow().to_pylist(), collected, strict=True):
        ended.setdefault((row["worker"], row["env"]), []).append(each.episode.ended_by)
    assert len(ended) == 20
    for endings in ended.values():
        # Each episode that the environment ended, and then the one that ran.
        assert set(endings[:-1]) <= {"terminated", "truncated"}
        assert endings[-1] in ("terminated", "truncated", "closed")
    assert sum(endings[-1] == "closed" for endings in ended.values()) >= 10


@pytest.mark.slow  # seven workers
def test_seeds_do_not_depend_on_how_environments_are_shared_out(tmp_path: Path) -> None:
    """Nor on the kind of environments."""
    kinds: dict[str, tuple[Any, dict[str, int]]] = {
        "one worker": (Ticking, {"num_workers": 1, "num_envs": 6}),
        "Env": (Ticking, {"num_workers": 2, "num_envs": 3}),
        "VecEnv": (lambda: DummyVecEnv([Ticking] * 3), {"num_workers": 2}),
        "VectorEnv": (lambda: gym.vector.SyncVectorEnv([Ticking] * 3), {"num_workers": 2}),
    }
    seeds, numbers = set(), set()
    for kind, (make, options) in kinds.items():
        data = collect(make, None, tmp_path / kind, steps=60, seed=5, **options)  # type: ignore[arg-type]
        assert data.total_steps == 60
        check_all(data)
        firsts = [each for each in data if each.episode.start_step == 0 and each.episode.seed is not None]
        seeds.add(tuple(sorted(each.episode.seed for each in firsts if each.episode.seed is not None)))
        numbers.add(tuple(sorted(each.obs[0, 0] for each in firsts)))
    assert (len(seeds), len(numbers)) == (1, 1)
    (found,) = seeds
    assert found == tuple(range(found[0], found[0] + 6))


def test_environments_with_one_generator(tmp_path: Path) -> None:
    make = functools.partial(gym.make_vec, "CartPole-v1", 3, vectorization_mode="vector_entry_point")
    data = collect(make, None, tmp_path, steps=60, num_workers=1, seed=0)
    assert data.total_steps == 60
    assert len({tuple(each.obs[0]) for each in data if each.episode.start_step == 0}) >= 3


def test_rounds_of_episodes_are_whole(workers: Collector) -> None:
    workers.collect(None, steps=50)
    rounds = []
    for number in (1, 10, 30):
        data = workers.collect(None, episodes=number)
        rounds.append(table(data)["round"][0])
        check_all(data)
        assert number <= len(data) <= number + 6
        assert all(each.episode.start_step == 0 and (each.terminated or each.truncated) for each in data)
    workers.collect(None, steps=50)
    # What runs after such a round is not written.
    of_rounds = open_traces(workers.directory).filter(pc.field("round").isin(rounds))
    assert all(each.terminated or each.truncated for each in of_rounds)


def test_short_episodes_are_not_preferred(tmp_path: Path) -> None:
    """Each environment's episodes are its first ones, without a gap."""
    data = collect(Ticking, None, tmp_path, episodes=20, num_workers=1, num_envs=4, seed=11)
    for env in range(4):
        of_env = [each for each in data if each.episode.env_index == env]
        replayed = Ticking()
        obs, _ = replayed.reset(seed=of_env[0].episode.seed)
        for each in of_env:
            assert each.obs[0].tolist() == obs.tolist()
            obs, _ = replayed.reset()


def test_until(workers: Collector) -> None:
    asked = []

    def until(progressed: Any) -> bool:
        asked.append(progressed.episodes)
        return progressed.steps >= 300

    data = workers.collect(None, until=until)
    check_all(data)
    assert asked == sorted(asked)
    assert data.total_steps >= 300
    assert all(each.terminated or each.truncated for each in data)


class StoppedError(Exception):
    pass


def test_everything_that_was_written(collected: TraceDataset) -> None:
    """Also by a round that ends early, and nothing that an earlier collection has written to the same directory."""

    def until(progressed: Any) -> bool:
        if progressed.steps >= 300:
            raise StoppedError
        return False

    with Collector(Ticking, collected.path, num_workers=2, num_envs=2) as collector:
        assert len(collector.written()) == 0
        rounds = [collector.collect(None, steps=80) for _ in range(2)]
        assert content(collector.written()) == [each for data in rounds for each in content(data)]
        with pytest.raises(StoppedError):
            collector.collect(None, until=until)
    written = collector.written()
    check_all(written)
    assert written.total_steps >= 460
    assert open_traces(collected.path).total_steps == written.total_steps + 395
    assert verify_traces(collected.path).ok
    early = written.filter(pc.field("round") == 2)
    running = [each for each in early if not (each.terminated or each.truncated)]
    assert 1 <= len(running) <= 4
    assert {each.episode.ended_by for each in running} == {"closed"}
    with pytest.raises(ProtocolError, match="closed"):
        collector.collect(None, steps=10)
    collector.close()


def test_a_stream_takes_up_new_weights(workers: Collector) -> None:
    handle = PolicyHandle(Numbered.build, Numbered.set_number)
    assert handle.version is None
    assert handle.publish(10) == 0
    parts = []
    for data in workers.stream(handle):
        parts.append(data)
        rows = table(data)
        for i, each in enumerate(data):
            assert set(each.acts.tolist()) == {10 + rows["policy_version"][i]}
        newest = max(rows["policy_version"])
        if newest == 3:
            break
        if handle.version == newest:
            handle.publish(10 + newest + 1)
    check_all(each for data in parts for each in data)
    # What was made after the last part is there, too, and goes on in the next round.
    workers.collect(None, steps=600)
    number = table(parts[0])["round"][0]
    everything = workers.written().filter(pc.field("round").isin([number, number + 1]))
    check_all(everything)
    assert everything.total_steps >= 600 + sum(each.total_steps for each in parts)
    whole = everything.whole_episodes()
    assert all(len(each) == length_of(int(each.obs[0, 0])) for each in whole if each.terminated or each.truncated)


def test_a_fragment_is_of_one_policy(workers: Collector) -> None:
    """Also where two handles have the same number of versions."""
    handles = []
    for number in (1, 2):
        handles.append(PolicyHandle(Numbered.build, Numbered.set_number))
        handles[-1].publish(number)
    stream = workers.stream(handles[0])
    streamed = next(stream)
    data = workers.collect(handles[1], steps=60)
    assert {int(act) for each in data for act in each.acts} == {2}
    rounds = [table(streamed)["round"][0], table(data)["round"][0]]
    written = workers.written().filter(pc.field("round").isin(rounds))
    assert {len(set(each.acts.tolist())) for each in written} == {1}
    check_all(written)


def test_a_round_after_a_stream_has_none_of_its_steps(workers: Collector) -> None:
    """Also with the same policy."""
    handle = PolicyHandle(Numbered.build, Numbered.set_number)
    handle.publish(1)
    streamed = next(workers.stream(handle))
    data = workers.collect(handle, steps=60)
    assert data.total_steps == 60
    rounds = [table(streamed)["round"][0], table(data)["round"][0]]
    check_all(workers.written().filter(pc.field("round").isin(rounds)))


def test_workers_act_while_the_caller_trains(workers: Collector) -> None:
    stream = workers.stream(None)
    first = next(stream)
    # Nobody asks the stream meanwhile.
    enough = workers.written().total_steps + 4 * first.total_steps
    begin = time.monotonic()
    while workers.written().total_steps < enough:
        assert time.monotonic() - begin < 60
        time.sleep(0.05)
    second = next(stream)
    assert second.total_steps > 3 * first.total_steps
    check_all([*first, *second])
    # The next round, or another stream, ends it.
    assert workers.collect(None, steps=20).total_steps == 20
    assert list(stream) == []
    assert next(workers.stream(None)).total_steps > 0


def test_a_model_of_sb3_is_sent_as_it_is(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")]), n_steps=64, batch_size=64, device="cpu")
    with Collector("CartPole-v1", tmp_path, num_workers=1, num_envs=2, seed=0, deterministic_policy=True) as collector:
        before = collector.collect(model, steps=80)
        model.learn(256)
        after = collector.collect(model, steps=80)
        policy_only = collector.collect(model.policy, steps=80)
    untrained = [each for each in before if each.episode.start_step == 0]
    assert untrained
    for data in (after, policy_only):
        for each in data:
            acts, _ = model.predict(each.obs[:-1], deterministic=True)
            assert acts.tolist() == each.acts.tolist()


class Doors(Ticking):
    """Allows one action: the number of steps so far."""

    def action_masks(self) -> Any:
        return np.arange(1000) == self.step_count


def test_masks_are_those_of_the_step_under_every_policy(tmp_path: Path) -> None:
    with Collector(Doors, tmp_path, num_workers=1, record_masks=True) as collector:
        for seed in (0, 1):
            model = MaskablePPO("MlpPolicy", DummyVecEnv([Doors]), n_steps=8, batch_size=8, device="cpu", seed=seed)
            for each in collector.collect(model, steps=30):
                assert each.infos is not None
                allowed = [np.flatnonzero(info["action_masks"]).tolist() for info in each.infos]
                assert allowed == [[step] for step in each.obs[:-1, 1]]


class Exploring(DQN):
    """Takes each action from its action space, as DQN explores."""

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        return np.array([self.action_space.sample() for _ in observation]), None


@pytest.mark.slow  # workers of its own
def test_workers_explore_differently(tmp_path: Path) -> None:
    model = Exploring("MlpPolicy", Ticking(), buffer_size=10, device="cpu")
    model.action_space.seed(0)
    data = collect(Ticking, model, tmp_path, steps=40, num_workers=2, seed=1, num_envs=1)
    first, second = (
        np.concatenate([each.acts for each in data.filter(pc.field("worker") == worker)]).tolist() for worker in (0, 1)
    )
    assert len(first) == len(second) == 20
    assert first != second


@pytest.mark.slow  # the command shows the same line
def test_a_line_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(master, shown))
    reader.start()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        collect(Ticking, None, tmp_path, episodes=3000, num_workers=1, num_envs=2, progress=True)
    reader.join()
    os.close(master)
    progress = r"1 workers · [\d,]+ steps · [\d,]+ a second · [\d,]+ of 3,000 episodes"
    line = rf"{progress} · mean return \d+\.\d\d · 0 restarts"
    assert re.search(line, b"".join(shown).decode())


def read_all(master: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a terminal that was closed
        while block := os.read(master, 4096):
            shown.append(block)


class Both(gym.vector.SyncVectorEnv):
    """Two environments with rewards of two objectives."""

    def __init__(self) -> None:
        super().__init__([Ticking] * 2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)

    def step(self, actions: Any) -> Any:
        obs, rews, *others = super().step(actions)
        return obs, np.stack([rews, np.ones(2)], axis=1), *others


def test_rewards_that_are_vectors_have_no_return(tmp_path: Path) -> None:
    progress = []

    def until(progressed: Any) -> bool:
        progress.append(list(progressed.returns))
        return progressed.episodes >= 10

    data = collect(Both, None, tmp_path, until=until, num_workers=1)
    assert all(each.rews.shape == (len(each), 2) for each in data)
    assert np.isnan(progress[-1]).all()


def test_options_of_writers_and_recorders(kept: Path) -> None:
    options: dict[str, Any] = {"metadata": {"run": "a"}, "episode_metadata": lambda each: {"steps": len(each)}}
    spaces = gym.spaces.Box(-1, 2.0**40, (2,), np.float64), gym.spaces.Discrete(1000)
    options |= {"record_infos": "none", "compression": None, "spaces": spaces}
    # The traces that are there are of other spaces.
    with pytest.raises(OptionError, match="spaces: expected those of the traces in"):
        collect(Ticking, None, kept, steps=30, num_workers=1, **options)
    data = collect(Ticking, None, kept, steps=30, num_workers=1, overwrite=True, **options)
    assert data.about(0)["spaces"] == spaces
    assert table(data)["steps"] == [len(each) for each in data]
    assert data.metadata["run"] == "a"
    assert data.total_steps == open_traces(kept).total_steps == 30


def test_arrays_of_a_handle(workers: Collector) -> None:
    handle = PolicyHandle(Numbered.build, Numbered.set_number)
    handle.publish(np.int64(4))
    data = workers.collect(handle, steps=10)
    assert {int(act) for each in data for act in each.acts} == {4}
