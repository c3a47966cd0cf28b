"""`TraceRecordingWrapper`: what is on disk afterwards, with and without filters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from vecrollout import TraceRecordingWrapper, open_traces, scan_recorded_traces, stitch, verify_traces
from vecrollout.errors import ArgumentTypeError, OptionError, StitchError
from vecrollout.recording.selection import BalancedRewards
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, ScriptedError, assert_same, batch_of

EPISODES = [EpisodeScript(6), EpisodeScript(1), EpisodeScript(4, "truncated"), EpisodeScript(5, "both")]


def counting(space: str = "box_scalar", episodes: Any = EPISODES, **options: Any) -> CountingEnv:
    """After t steps of episode k, everything is a function of 10 k + t."""
    return CountingEnv(space, episodes, stride=10, **options)


def play(env: gym.Env[Any, Any], episodes: int = len(EPISODES)) -> None:
    for seed in range(episodes):
        env.reset(seed=seed)
        is_over = False
        while not is_over:
            *_, terminated, truncated, _ = env.step(1)
            is_over = terminated or truncated


def recorded(directory: Path, **options: Any) -> list[Any]:
    env = TraceRecordingWrapper(counting(), directory, **options)
    play(env)
    env.close()
    return list(open_traces(directory))


def scanned(directory: Path, **options: Any) -> list[tuple[Any, Any, Any]]:
    seen: list[tuple[Any, Any, Any]] = []
    scan_recorded_traces(directory, lambda *arrays: seen.append(arrays), **options)
    return seen


def steps_of(trajectory: Any) -> range:
    start = trajectory.episode.start_step
    return range(start, start + len(trajectory))


@pytest.mark.parametrize("space", ["box", "image", "discrete", "dict", "tuple", "nested"])
def test_every_action_observation_and_reward(space: str, tmp_path: Path) -> None:
    env = TraceRecordingWrapper(counting(space), tmp_path)
    play(env)
    env.close()
    traces = open_traces(tmp_path)
    assert len(traces) == 4
    for k, (trajectory, script) in enumerate(zip(traces, EPISODES, strict=True)):
        numbers = range(10 * k, 10 * k + script.steps + 1)
        assert_same(trajectory.obs, batch_of(SPACES[space], numbers))
        assert_same(trajectory.acts, np.ones(script.steps, np.int64))
        assert_same(trajectory.rews, np.array(numbers[1:]) + 0.5)
        assert_same(list(trajectory.infos), [{"t": t} for t in range(1, script.steps + 1)])
        assert (trajectory.terminated, trajectory.truncated) == (script.terminated, script.truncated)
        assert trajectory.episode.id == trajectory.episode.seed == k
        assert trajectory.episode.reset_info == {"episode": k, "seed": k}
    assert verify_traces(tmp_path).ok


def test_what_the_environment_returns_is_its_own(tmp_path: Path) -> None:
    base = counting()
    env = TraceRecordingWrapper(base, tmp_path)
    assert env.reset(seed=3, options={"of": "test"}) == (0, {"episode": 0, "seed": 3, "options": {"of": "test"}})
    assert env.step(0) == (1, 1.5, False, False, {"t": 1})
    assert env.unwrapped is base
    env.close()


def test_the_trace_says_what_environment_it_is_of(tmp_path: Path) -> None:
    env = TraceRecordingWrapper(
        gym.make("CartPole-v1", max_episode_steps=7),
        tmp_path,
        metadata={"run": 3},
        episode_metadata=lambda trajectory: {"steps": len(trajectory)},
    )
    play(env, 1)
    env.close()
    traces = open_traces(tmp_path)
    about = traces.about(0)
    assert about["spaces"] == (env.observation_space, env.action_space)
    assert about["metadata"] == {"run": 3}
    assert traces.metadata_of(0) == {"steps": 7}
    spec = gym.envs.registration.EnvSpec.from_json(about["env_spec"])
    assert (spec.id, spec.max_episode_steps) == ("CartPole-v1", 7)


def test_a_fresh_directory(tmp_path: Path) -> None:
    """Under the system's folder for temporary files, a new one each time."""
    code = f"""
import tempfile
tempfile.tempdir = {str(tmp_path)!r}
from vecrollout import TraceRecordingWrapper
from vecrollout.testing import CountingEnv
for _ in range(2):
    env = TraceRecordingWrapper(CountingEnv())
    env.reset()
    env.step(0)
    print(env.directory)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    directories = [Path(line) for line in run.stdout.split()]
    assert len(set(directories)) == 2
    for directory in directories:
        assert directory.parent == tmp_path
        # Nobody closed it: the end of the process did.
        assert [(len(each), each.episode.ended_by) for each in open_traces(directory)] == [(1, "closed")]


def test_early_reset_and_close(tmp_path: Path) -> None:
    env = TraceRecordingWrapper(counting(), tmp_path)
    for steps in (2, 0, 3):
        env.reset()
        for _ in range(steps):
            env.step(0)
    env.close()
    env.close()
    assert [(len(each), each.episode.ended_by) for each in open_traces(tmp_path)] == [
        (2, "reset_early"),
        (3, "closed"),
    ]


def test_a_step_that_fails(tmp_path: Path) -> None:
    base = counting()
    with TraceRecordingWrapper(base, tmp_path) as env:
        env.reset()
        env.step(0)
        base.fail_next = True
        with pytest.raises(ScriptedError):
            env.step(0)
        env.reset()
        env.step(0)
    assert [len(each) for each in open_traces(tmp_path)] == [1, 1]


def test_an_environment_that_does_not_close(tmp_path: Path) -> None:
    class Stubborn(CountingEnv):
        def close(self) -> None:
            raise ScriptedError

    env = TraceRecordingWrapper(Stubborn(), tmp_path)
    env.reset()
    env.step(0)
    with pytest.raises(ScriptedError):
        env.close()
    assert verify_traces(tmp_path).ok
    assert len(open_traces(tmp_path)) == 1


@pytest.mark.parametrize("most", [1, 2, 4, 100])
def test_memory_is_bounded(most: int, tmp_path: Path) -> None:
    """An episode that is too long is written in fragments, which stitch and play back as one."""
    env = TraceRecordingWrapper(counting(), tmp_path, max_transitions=most)
    for seed in range(len(EPISODES)):
        env.reset(seed=seed)
        is_over = False
        while not is_over:
            *_, terminated, truncated, _ = env.step(1)
            is_over = terminated or truncated
            assert env.held <= most
    env.close()
    traces = open_traces(tmp_path)
    assert len(traces) == sum(-(-script.steps // most) for script in EPISODES)
    for k, (fragments, script) in enumerate(zip(traces.episodes(), EPISODES, strict=True)):
        whole = stitch(traces[number] for number in fragments)
        assert_same(whole.obs, batch_of(SPACES["box_scalar"], range(10 * k, 10 * k + script.steps + 1)))
        assert (whole.terminated, whole.truncated) == (script.terminated, script.truncated)
    assert [len(obs) - len(acts) for obs, acts, _ in scanned(tmp_path)] == [1] * 4


def test_an_episode_filter(tmp_path: Path) -> None:
    asked: list[int] = []

    def is_even(index: int) -> bool:
        asked.append(index)
        return index % 2 == 0

    kept = recorded(tmp_path, episode_filter=is_even, max_transitions=2)
    assert asked == [0, 1, 2, 3]
    assert {each.episode.id for each in kept} == {0, 2}
    assert [(len(obs), len(acts)) for obs, acts, _ in scanned(tmp_path)] == [(7, 6), (5, 4)]


FILTERS: dict[str, Callable[[int], bool]] = {
    "every third is left out": lambda step: step % 3 != 2,
    "every second": lambda step: step % 2 == 0,
    "not the first": lambda step: step > 0,
    "not behind the third": lambda step: step < 3,
    "none": lambda step: False,
    "all": lambda step: True,
}


@pytest.mark.parametrize("most", [1, 3, None])
@pytest.mark.parametrize("name", FILTERS)
def test_a_frame_filter(name: str, most: int | None, tmp_path: Path) -> None:
    is_kept = FILTERS[name]
    kept = recorded(tmp_path, frame_filter=is_kept, max_transitions=most)
    got: dict[int, list[int]] = {k: [] for k in range(4)}
    for each in kept:
        k = each.episode.id
        got[k].extend(steps_of(each))
        # Whatever is next to each other in a fragment was so in the episode.
        assert_same(
            each.obs, batch_of(SPACES["box_scalar"], [10 * k + t for t in [*steps_of(each), steps_of(each)[-1] + 1]])
        )
        assert_same(each.rews, np.array([10 * k + t + 1.5 for t in steps_of(each)]))
        is_end = steps_of(each)[-1] == EPISODES[k].steps - 1
        assert each.terminal == is_end == (each.episode.ended_by is not None)
    expected = {k: [t for t in range(script.steps) if is_kept(t)] for k, script in enumerate(EPISODES)}
    assert got == expected

    played = iter(scanned(tmp_path))
    for k, steps in expected.items():
        if not steps:
            continue
        obs, acts, rews = next(played)
        is_whole = len(steps) == EPISODES[k].steps
        assert_same(obs, batch_of(SPACES["box_scalar"], [10 * k + t for t in [*steps, *[len(steps)] * is_whole]]))
        assert_same(acts, np.ones(len(steps), np.int64))
        assert_same(rews, np.array([10 * k + t + 1.5 for t in steps]))
    assert next(played, None) is None


def test_fragments_with_a_gap_do_not_stitch(tmp_path: Path) -> None:
    kept = recorded(tmp_path, frame_filter=FILTERS["every third is left out"])
    with pytest.raises(StitchError, match="a gap"):
        stitch(each for each in kept if each.episode.id == 0)


def test_playback_of_some_episodes(tmp_path: Path) -> None:
    recorded(tmp_path, frame_filter=FILTERS["every second"])
    assert [len(acts) for _, acts, _ in scanned(tmp_path, max_episodes=2)] == [3, 1]


def balanced(rews: list[float], classes: list[float], seed: int) -> list[bool]:
    """The definition, a step at a time."""
    generator = np.random.default_rng(seed)
    seen = dict.fromkeys(range(len(classes)), 0)
    kept = []
    for rew in rews:
        nearest = min(range(len(classes)), key=lambda each: abs(rew - classes[each]))
        seen[nearest] += 1
        kept.append(bool(generator.random() < min(seen.values()) / seen[nearest]))
    return kept


def test_balanced_rewards_are_what_they_are_defined_to_be() -> None:
    generator = np.random.default_rng(0)
    classes = [-1.0, 0.0, 1.0]
    rews = generator.choice([-1.2, -0.6, 0.0, 0.1, 0.2, 0.3, 0.45, 2.0], size=3000)
    balance = BalancedRewards(classes, seed=5)
    # In parts of any size.
    kept = np.concatenate([balance.keeps(part) for part in np.split(rews, [1, 1, 7, 500])])
    assert kept.tolist() == balanced(rews.tolist(), classes, seed=5)
    nearest = np.abs(rews[kept][:, None] - classes).argmin(axis=1)
    counts = np.bincount(nearest, minlength=3)
    assert counts.min() > 200
    assert counts.max() / counts.min() < 1.3


def test_reward_classes(tmp_path: Path) -> None:
    """The rewards of the four episodes are 1.5, 2.5, ... 6.5, 11.5, 21.5, ... 24.5, 31.5, ... 35.5."""
    kept = recorded(tmp_path, reward_classes=[0, 30], seed=2)
    steps = [(k, t) for k, script in enumerate(EPISODES) for t in range(script.steps)]
    is_kept = balanced([10 * k + t + 1.5 for k, t in steps], [0, 30], seed=2)
    assert [(each.episode.id, t) for each in kept for t in steps_of(each)] == [
        step for step, each in zip(steps, is_kept, strict=True) if each
    ]


def test_steps_that_a_frame_filter_leaves_out_count_to_no_class(tmp_path: Path) -> None:
    kept = recorded(tmp_path, reward_classes=[0, 30], seed=2, frame_filter=lambda step: step != 1)
    steps = [(k, t) for k, script in enumerate(EPISODES) for t in range(script.steps) if t != 1]
    is_kept = balanced([10 * k + t + 1.5 for k, t in steps], [0, 30], seed=2)
    assert [(each.episode.id, t) for each in kept for t in steps_of(each)] == [
        step for step, each in zip(steps, is_kept, strict=True) if each
    ]


def test_a_filter_that_fails_loses_nothing(tmp_path: Path) -> None:
    fails = [True]

    def moody(step: int) -> bool:
        if fails[0] and step == 2:
            raise LookupError("of the test")
        return step != 1

    env = TraceRecordingWrapper(counting(), tmp_path, frame_filter=moody, reward_classes=[0], seed=0)
    with pytest.raises(LookupError):
        play(env, 1)
    assert env.held == 6
    fails[0] = False
    env.close()
    assert [(each.episode.id, list(steps_of(each))) for each in open_traces(tmp_path)] == [(0, [0]), (0, [2, 3, 4, 5])]


class Refusing:
    """A sink that refuses every second trajectory that it is offered."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.offers = 0
        self.is_closed = False

    def append(self, trajectory: Any) -> None:
        self.offers += 1
        if self.offers % 2:
            raise BlockingIOError
        self.taken.append(trajectory)

    def close(self) -> None:
        self.is_closed = True


def test_what_a_sink_refuses_is_offered_again_and_nothing_comes_twice(tmp_path: Path) -> None:
    """With a writer of one's own, too, which need not know more than to append and to close."""
    sink = Refusing()

    class Own(TraceRecordingWrapper):
        def _writing(self, directory: Any) -> Any:
            assert directory == tmp_path
            return nullcontext(sink)

    env = Own(counting(), tmp_path, frame_filter=lambda step: step % 2 == 0)
    env.reset()
    for _ in range(5):
        env.step(0)
    with pytest.raises(BlockingIOError):
        env.step(0)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            env.reset()
    env.reset()
    env.close()
    assert [(each.episode.id, each.episode.start_step) for each in sink.taken] == [(0, 0), (0, 2), (0, 4)]
    assert sink.is_closed
    assert env.sunk == 6


@pytest.mark.parametrize("max_shard_bytes", [4096, 1 << 20])
@pytest.mark.parametrize("precise", [0, 1, 2, 40])
def test_rewards_of_single_and_double_precision(precise: int, max_shard_bytes: int, tmp_path: Path) -> None:
    """All of one episode's in single precision, and another's, from which on, in Python's numbers: none is lost."""

    class Mixed(CountingEnv):
        def step(self, action: Any) -> Any:
            obs, _, terminated, truncated, info = super().step(action)
            rew = 0.1 + self._episode if self._episode == precise else np.float32(0.1 + self._episode)
            return obs, rew, terminated, truncated, info

    env = TraceRecordingWrapper(Mixed("image", [EpisodeScript(3)]), tmp_path, max_shard_bytes=max_shard_bytes)
    for seed in range(80):
        play(env, 1)
        if seed % 10 == 0:
            env.flush()
    env.close()
    assert verify_traces(tmp_path).ok
    traces: Any = open_traces(tmp_path)
    for k, each in enumerate(traces):
        reward = 0.1 + k if k == precise else np.float32(0.1 + k)
        assert each.rews.tolist() == [float(reward)] * 3
    assert len(traces) == 80
    assert len(scanned(tmp_path)) == 80


def test_infos_by_name_and_none(tmp_path: Path) -> None:
    for options, expected in (({"record_infos": "none"}, None), ({"record_infos": ["x"]}, [{}])):
        (trajectory, *_) = recorded(tmp_path / str(expected), **options)
        assert trajectory.infos is None if expected is None else list(trajectory.infos) == [{}] * 6


@pytest.mark.parametrize("classes", [[], 3.0, [[1.0]], [float("nan")], ["a"], [None]])
def test_classes_are_checked(classes: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="reward_classes"):
        TraceRecordingWrapper(counting(), tmp_path, reward_classes=classes)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"frame_filter": 3}, ArgumentTypeError),
        ({"episode_filter": [0]}, ArgumentTypeError),
        ({"max_transitions": 0}, OptionError),
        ({"record_infos": "some"}, OptionError),
        ({"compression": "gzip"}, OptionError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match=next(iter(options))):
        TraceRecordingWrapper(counting(), tmp_path, **options)
