"""Many episodes end before anybody looks, or while somebody looks now and then."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

from vecrollout import BufferingWrapper, VectorBufferingWrapper
from vecrollout.buffer import Ending, RecordOptions, RolloutBuffer
from vecrollout.testing import EpisodeScript, Scenario, assert_same

# Episodes of a single step, one after another and beside others; some that all end together.
EPISODES = (
    (EpisodeScript(1), EpisodeScript(1, "truncated")),
    (EpisodeScript(1), EpisodeScript(2, "truncated"), EpisodeScript(3)),
    (EpisodeScript(5, "both"),),
    (EpisodeScript(400), EpisodeScript(1)),
)
CALLS = 1300  # more than the log keeps in one piece


class Path:
    """A recorder, and what it has to record."""

    def __init__(self, rule: str, make, reward_dtype, sees_both: bool) -> None:
        self.scenario = Scenario(episodes=EPISODES, has_dead_calls=rule == "next_step")
        self.make = lambda **options: make(self.scenario.env_fns(), **options)
        self.kind = {"reward_dtype": reward_dtype, "sees_both": sees_both}

    def assert_recorded(self, trajectories, start, stop, closed=False) -> None:
        expected = self.scenario.recorded(start, stop, closed=closed)
        assert [len(each) for each in trajectories] == [len(each) for each in expected]
        for trajectory, recorded in zip(trajectories, expected, strict=True):
            recorded.assert_recorded_as(trajectory, **self.kind)

    def run(self, recorder, start, stop) -> None:
        for call in range(start, stop):
            recorder.step(self.scenario.actions(call))


def vector(rule):
    return lambda fns, **options: VectorBufferingWrapper(sync_env(fns, rule, copy=False), **options)


PATHS = {"VecEnv": Path("same_step", lambda fns, **options: BufferingWrapper(DummyVecEnv(fns), **options), "f4", False)}
PATHS |= {rule: Path(rule, vector(rule), "f8", True) for rule in MODES if rule != "disabled"}

each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@each_path
def test_nobody_looks_until_the_end(path):
    recorder = path.make()
    recorder.reset()
    path.run(recorder, 0, CALLS)
    assert recorder.stepped == path.scenario.steps(CALLS)
    path.assert_recorded(recorder.pop_trajectories()[0], 0, CALLS)
    path.run(recorder, CALLS, CALLS + 20)
    path.assert_recorded(recorder.pop_trajectories()[0], CALLS, CALLS + 20)


@each_path
@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_somebody_looks_now_and_then(path, every):
    """In the middle of episodes, at their ends, and while others wait."""
    recorder = path.make()
    recorder.reset()
    popped = []
    for start in range(0, 60, every):
        path.run(recorder, start, start + every)
        assert recorder.held == path.scenario.steps(start + every) - recorder.popped
        popped += recorder.pop_finished_trajectories()[0]
    path.assert_recorded([*popped, *recorder.pop_trajectories()[0]], 0, start + every)


@each_path
def test_counts_while_nobody_looks(path):
    """The calls in which environments are reset count no steps."""
    recorder = path.make()
    recorder.reset()
    for call in range(100):
        path.run(recorder, call, call + 1)
        assert (recorder.stepped, recorder.dropped) == (path.scenario.steps(call + 1), 0)


@each_path
def test_a_sink_gets_each_at_once(path):
    sink = []
    recorder = path.make(sink=sink)
    recorder.reset()
    for call in range(60):
        path.run(recorder, call, call + 1)
        finished = [each for each in path.scenario.recorded(0, call + 1) if each.terminal]
        assert len(sink) == len(finished)
        assert recorder.delivered == sum(map(len, finished))
    path.run(recorder, 60, CALLS)
    recorder.close()
    path.assert_recorded(sink, 0, CALLS, closed=True)


@each_path
def test_transitions(path):
    recorder = path.make()
    recorder.reset()
    path.run(recorder, 0, CALLS)
    transitions = recorder.pop_transitions()
    expected = path.scenario.recorded(0, CALLS)
    for name, span in {"obs": slice(None, -1), "next_obs": slice(1, None)}.items():
        assert_same(getattr(transitions, name), np.concatenate([each.obs[span] for each in expected]), name)
    assert_same(transitions.acts, np.concatenate([each.acts for each in expected]))
    assert transitions.dones.tolist() == [
        each.terminal and t == each.stop_step - 1 for each in expected for t in range(each.start_step, each.stop_step)
    ]


@each_path
def test_a_state_in_the_middle(path):
    """Also while environments wait to be reset."""
    for calls in range(2, 12):
        recorder, loaded = path.make(), path.make()
        recorder.reset()
        path.run(recorder, 0, calls)
        loaded.load_state_dict(recorder.state_dict())
        assert (loaded.stepped, loaded.held) == (recorder.stepped, recorder.held)
        path.assert_recorded(loaded.pop_trajectories()[0], 0, calls)


@each_path
@pytest.mark.parametrize("calls", range(2, 9))
def test_a_reset_in_the_middle(path, calls):
    """What ran is closed; environments that waited begin an episode, and leave nothing behind."""
    recorder = path.make(error_on_premature_reset=False)
    recorder.reset()
    path.run(recorder, 0, calls)
    recorder.reset()
    before = [(each.ended_by or "reset_early", len(each)) for each in path.scenario.recorded(0, calls)]
    trajectories = recorder.pop_trajectories()[0]
    assert [(each.episode.ended_by, len(each)) for each in trajectories] == before
    path.run(recorder, 0, 1)
    assert recorder.held == len(EPISODES)


@each_path
def test_as_many_as_may_be_held(path):
    """Where the oldest ones go as others end, what is left are the latest."""
    recorder = path.make(max_transitions=50, on_full="drop_oldest")
    recorder.reset()
    scenario = path.scenario
    path.run(recorder, 0, 30)
    assert recorder.stepped == scenario.steps(30) == recorder.held + recorder.dropped
    assert recorder.held <= 50
    expected = scenario.recorded(0, 30)
    while sum(map(len, expected)) > recorder.held:
        del expected[0]
    for trajectory, recorded in zip(recorder.pop_trajectories()[0], expected, strict=True):
        recorded.assert_recorded_as(trajectory, **path.kind)


@pytest.mark.parametrize("record_infos", ["all", "none", ["own"]])
def test_an_endings_own_info(record_infos):
    """It stands in the place of the step's; those of the other environments are kept as they came."""
    buffer = RolloutBuffer(2, RecordOptions(record_infos))
    obs, infos = np.zeros((2, 1)), [[{"own": t, "other": None}, {"own": -t}] for t in range(50)]
    buffer.reset(obs)
    for t in range(50):
        buffer.act(np.zeros(2))
        endings = [Ending(0, True, False, obs[0], {"own": 1000 + t, "more": 1})] if t % 3 == 2 else ()
        buffer.step(obs + t, np.zeros(2), infos[t], endings)
    *finished, rest, other = buffer.pop_trajectories()[0]
    if record_infos == "none":
        assert all(each.infos is None for each in (*finished, rest, other))
        return
    kept = [info for each in (*finished, rest) for info in each.infos]
    assert [info["own"] for info in kept] == [1000 + t if t % 3 == 2 else t for t in range(50)]
    assert ["more" in info for info in kept] == [t % 3 == 2 and record_infos == "all" for t in range(50)]
    assert [info["own"] for info in other.infos] == [-t for t in range(50)]
    if record_infos == "all":
        assert all(info is infos[t][1] for t, info in enumerate(other.infos))


def test_a_last_observation_that_does_not_fit_loses_nothing():
    buffer = RolloutBuffer(2)
    obs, rews = np.zeros((2, 3)), np.zeros(2)
    buffer.reset(obs)
    for t in range(1, 6):
        buffer.act(np.zeros(2))
        buffer.step(obs + t, rews, [{}, {}])
    buffer.act(np.zeros(2))
    with pytest.raises(ValueError, match="last observation of environment 1"):
        buffer.step(obs, rews, [{}, {}], [Ending(0, True, False, obs[0]), Ending(1, True, False, np.zeros(4))])
    buffer.abort()
    assert (buffer.stepped, buffer.held) == (10, 10)
    assert [each.obs[:, 0].tolist() for each in buffer.pop_trajectories()[0]] == [[0, 1, 2, 3, 4, 5]] * 2
