"""Episodes that the user drops, beside a model that counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

from vecrollout import BufferingEnvWrapper, BufferingWrapper, VectorBufferingWrapper
from vecrollout.errors import ArgumentTypeError, EmptyBufferError, OptionError
from vecrollout.testing import CountingEnv, EpisodeScript

LENGTHS = ([3, 1, 4, 2], [6], [2, 1])
LARGE = gym.spaces.Box(0, 255, (20, 20), np.int32)


def env_fns(space: Any = "box") -> list[Any]:
    return [
        lambda i=i, steps=steps: CountingEnv(space, episodes=[EpisodeScript(n) for n in steps], first=70 * i, stride=9)
        for i, steps in enumerate(LENGTHS)
    ]


MAKERS: dict[str, Any] = {
    "sb3": lambda space="box", **options: BufferingWrapper(DummyVecEnv(env_fns(space)), **options),
    **{
        mode: lambda space="box", mode=mode, **options: VectorBufferingWrapper(
            sync_env(env_fns(space), mode), **options
        )
        for mode in MODES
    },
    "single": lambda space="box", **options: BufferingEnvWrapper(env_fns(space)[0](), **options),
}
NO_ERROR = {"error_on_premature_reset": False}


class Model:
    """What a recorder holds, in numbers of steps by (episode id, first step)."""

    def __init__(self, envs: int) -> None:
        self.finished: list[tuple[int, int, int, int]] = []  # id, environment, first step, steps
        self.running: dict[int, list[int]] = {}  # by environment: id, first step, steps that are held
        self.discarded: dict[int, int] = {}
        self.counts = Counter(stepped=0, popped=0, dropped=0)

    def step(self, fragments: Any) -> None:
        for each in fragments:
            env, episode = each.episode.env_index, each.episode.id
            if self.discarded.get(env) != episode:
                self.counts["stepped"] += 1
                running = self.running.setdefault(env, [episode, each.episode.start_step, 0])
                running[2] += 1
            if each.terminal:
                self.end(env)

    def end(self, env: int) -> None:
        if env in self.running:
            episode, first, steps = self.running.pop(env)
            if steps:
                self.finished.append((episode, env, first, steps))
        self.discarded.pop(env, None)

    def discard_episode(self, env: int) -> int | None:
        if env in self.discarded:
            return 0
        if env in self.running:
            episode, _, steps = self.running.pop(env)
            self.discarded[env] = episode
            self.counts["dropped"] += steps
            return steps + self.drop(episode)
        ids = [each[0] for each in self.finished if each[1] == env]
        return self.drop(ids[-1]) if ids else None

    def discard_last(self) -> int | None:
        return self.drop(self.finished[-1][0]) if self.finished else None

    def drop(self, episode: int) -> int:
        dropped = sum(each[3] for each in self.finished if each[0] == episode)
        self.finished = [each for each in self.finished if each[0] != episode]
        self.counts["dropped"] += dropped
        return dropped

    def pop(self, with_running: bool) -> list[tuple[int, int, int, int]]:
        popped, self.finished = self.finished, []
        for env, running in sorted(self.running.items()) if with_running else ():
            episode, first, steps = running
            if steps:
                popped.append((episode, env, first, steps))
            self.running[env] = [episode, first + steps, 0]
        self.counts["popped"] += sum(each[3] for each in popped)
        return popped

    @property
    def held(self) -> int:
        return sum(each[3] for each in self.finished) + sum(each[2] for each in self.running.values())


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 6))])
@pytest.mark.parametrize("space", ["box", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", MAKERS)
def test_any_episodes_at_any_time(kind, space, seed):
    rng = np.random.default_rng(seed)
    recorder, other = MAKERS[kind](space, **NO_ERROR), MAKERS[kind](space, **NO_ERROR)
    envs = len(recorder.restart())
    other.restart()
    model = Model(envs)
    for _ in range(300):
        acts = np.zeros(envs, np.int64)
        ended, expected = recorder.advance(acts), other.advance(acts)
        np.testing.assert_array_equal(ended.obs, expected.obs)
        np.testing.assert_array_equal(ended.ended, expected.ended)
        np.testing.assert_array_equal(ended.starts, expected.starts)
        steps = other.pop_trajectories()[0]
        model.step(steps)
        act(recorder, model, rng, envs, other)
        assert (recorder.stepped, recorder.popped, recorder.dropped, recorder.held) == (
            *(model.counts[name] for name in ("stepped", "popped", "dropped")),
            model.held,
        )


def act(recorder: Any, model: Model, rng: Any, envs: int, other: Any) -> None:
    match rng.integers(8):
        case 0 | 1:
            env = int(rng.integers(envs))
            assert_dropped(model.discard_episode(env), lambda: recorder.discard_episode(env))
        case 2:
            assert_dropped(model.discard_last(), recorder.discard_last)
        case 3:
            assert_popped(recorder.pop_finished_trajectories()[0], model.pop(with_running=False))
        case 4:
            assert_popped(recorder.pop_trajectories()[0], model.pop(with_running=True))
        case 5 if rng.integers(4) == 0:
            recorder.restart()
            other.restart()
            for env in range(envs):
                model.end(env)
        case 6:
            state = recorder.state_dict()
            recorder.load_state_dict(state)


def assert_dropped(expected: int | None, discard: Any) -> None:
    if expected is None:
        with pytest.raises(EmptyBufferError):
            discard()
    else:
        assert discard() == expected


def assert_popped(trajectories: Any, expected: Any) -> None:
    found = [(e.episode.id, e.episode.env_index, e.episode.start_step, len(e)) for e in trajectories]
    assert found == expected
    for each in trajectories:
        number = np.asarray(each.obs).reshape(len(each) + 1, -1)[:, 0]
        np.testing.assert_array_equal(np.diff(number.astype(int)) % 256, 1)
        first = each.episode.start_step + 1
        assert [info["t"] for info in each.infos] == [*range(first, first + len(each))]
        np.testing.assert_array_equal(each.rews[1:] - each.rews[:-1], 1)


def test_a_failed_demonstration():
    env = BufferingEnvWrapper(CountingEnv(episodes=[EpisodeScript(3)]))
    env.reset()
    env.step(0)
    assert env.discard_episode() == 1
    env.reset()  # nothing is held, so nothing is refused
    for _ in range(3):
        env.step(0)
    assert env.discard_last() == 3
    env.reset()
    for _ in range(3):
        env.step(0)
    (kept,), lengths = env.pop_trajectories()
    assert (len(kept), kept.episode.id, lengths) == (3, 2, [3])
    assert (env.stepped, env.held, env.popped, env.delivered, env.dropped) == (7, 0, 3, 0, 4)


def test_between_the_halves_of_a_step():
    venv = MAKERS["sb3"]()
    venv.reset()
    venv.step_async(np.zeros(3, int))
    with pytest.raises(EmptyBufferError):
        venv.discard_episode(0)
    venv.step_wait()
    venv.step_async(np.zeros(3, int))
    assert venv.discard_episode(0) == 1
    venv.step_wait()
    assert (venv.stepped, venv.held, venv.dropped) == (5, 4, 1)
    assert {each.episode.env_index for each in venv.pop_trajectories()[0]} == {1, 2}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_a_sink_has_it_keeps(kind):
    """The running episode can be dropped before it ends."""
    sink: list[Any] = []
    recorder = MAKERS[kind](sink=sink)
    envs = len(recorder.restart())
    acts = np.zeros(envs, int)
    for _ in range(2):
        recorder.advance(acts)
    assert recorder.discard_episode(0) == 2
    recorder.advance(acts)
    recorder.advance(acts)
    assert not [each for each in sink if each.episode.env_index == 0 and each.episode.start_step == 0 and len(each) > 1]
    with pytest.raises(EmptyBufferError, match=r"discard_last: expected a finished episode, .* went to the sink"):
        recorder.discard_last()
    assert recorder.stepped == recorder.held + recorder.delivered + recorder.dropped


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_to_discard(kind):
    recorder = MAKERS[kind]()
    for _ in range(2):
        with pytest.raises(EmptyBufferError, match=r"discard_episode\(0\): expected steps of an episode"):
            recorder.discard_episode(0)
        with pytest.raises(EmptyBufferError, match="discard_last"):
            recorder.discard_last()
        recorder.restart()
    recorder.advance(np.zeros(len(recorder.restart()), int))
    recorder.close()
    assert recorder.discard_last() == 1


def test_environments_that_there_are_not():
    venv = MAKERS["sb3"]()
    venv.reset()
    for env, error in ((3, OptionError), (-1, OptionError), ("0", ArgumentTypeError), (None, ArgumentTypeError)):
        with pytest.raises(error, match="env: expected"):
            venv.discard_episode(env)


def test_dropped_steps_make_room():
    venv = MAKERS["sb3"](max_transitions=6)
    venv.reset()
    for _ in range(2):
        venv.step(np.zeros(3, int))
    for env in range(3):
        assert venv.discard_episode(env) == 2
    assert venv.held == 0
    venv.step(np.zeros(3, int))
    assert venv.stepped == venv.held + venv.dropped
