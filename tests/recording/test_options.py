"""Sinks, bounded memory, chosen infos: at the limits, and when something goes wrong."""

from __future__ import annotations

import re
import tracemalloc
from collections import deque

import gymnasium as gym
import numpy as np
import pytest
from checks import assert_recorded, run
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    TraceCallback,
    TraceRecordingWrapper,
    TrajectoryBatch,
    TrajectoryWithRew,
    VectorBufferingWrapper,
    generate_transitions,
    record_traces,
    rollout,
    stitch,
)
from vecrollout.buffer import Ending, RecordOptions, RolloutBuffer
from vecrollout.errors import ArgumentTypeError, BufferFullError, OptionError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario

SCENARIO = Scenario()
RNG = np.random.default_rng(0)
CALLS = 13


def recorder(scenario=SCENARIO, **options):
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), **options)
    venv.reset()
    return venv


MAKERS = [
    lambda **options: BufferingEnvWrapper(CountingEnv(), **options),
    lambda **options: BufferingWrapper(DummyVecEnv([CountingEnv] * 2), **options),
    lambda **options: VectorBufferingWrapper(gym.vector.SyncVectorEnv([CountingEnv] * 2), **options),
]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"record_infos": "some"}, "record_infos"),
        ({"max_transitions": 2}, "max_transitions"),
        ({"max_transitions": 0}, "max_transitions"),
        ({"max_transitions": -5}, "max_transitions"),
        ({"on_full": "drop"}, "on_full"),
        ({"early_reset": "refuse"}, "early_reset"),
    ],
)
def test_options_that_there_are_not(options, name):
    with pytest.raises(OptionError, match=f"{name}: expected .*, got"):
        BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()), **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("record_infos", None), ("record_infos", 5), ("max_transitions", "5"), ("max_transitions", 1e6)],
)
def test_options_of_another_kind(name, value):
    with pytest.raises(ArgumentTypeError, match=f"{name}: expected .*, got {value!r}"):
        BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()), **{name: value})


@pytest.mark.parametrize(
    ("name", "cure"), [("record_info", "record_infos"), ("max_transition", "max_transitions"), ("sinks", "sink")]
)
@pytest.mark.parametrize("make", MAKERS)
def test_an_unknown_option_is_answered_with_the_nearest(make, name, cure):
    with pytest.raises(ArgumentTypeError, match=f"{name!r}.*{cure!r}"):
        make(**{name: None})


@pytest.mark.parametrize(
    ("make", "name", "answer"),
    [
        (lambda **o: BufferingWrapper(DummyVecEnv([CountingEnv]), **o), "copy_info", "did you mean 'copy_infos'?"),
        (MAKERS[2], "autoreset_modes", "did you mean 'autoreset_mode'?"),
        (MAKERS[0], "compression", "it is an option of TraceWriter"),
        (MAKERS[0], "episode_filters", "mean 'episode_filter', an option of TraceRecordingWrapper, record_traces"),
        (lambda **o: record_traces(CountingEnv(), "nowhere", **o), "max_transition", "did you mean 'max_transitions'?"),
        (lambda **o: record_traces(CountingEnv(), "nowhere", **o), "compresion", "did you mean 'compression'?"),
        (lambda **o: record_traces(CountingEnv(), "nowhere", **o), "sink", "it is an option of recorders"),
        (lambda **o: TraceRecordingWrapper(CountingEnv(), "nowhere", **o), "frame_filtre", "mean 'frame_filter'?"),
        (lambda **o: TraceCallback("nowhere", **o), "record_info", "did you mean 'record_infos'?"),
        (
            lambda **o: TraceCallback("nowhere", **o),
            "error_on_premature_reset",
            "it is an option of BufferingEnvWrapper, BufferingWrapper, VectorBufferingWrapper",
        ),
        (lambda **o: rollout(None, CountingEnv(), len, RNG, **o), "max_step", "did you mean 'max_steps'?"),
        (lambda **o: generate_transitions(None, CountingEnv(), 1, RNG, **o), "truncated", "did you mean 'truncate'?"),
        (MAKERS[1], "colour", "the options are "),
    ],
)
def test_a_misspelled_option_is_answered_whichever_function_has_it(make, name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentTypeError, match=f"unexpected option {name!r}; .*{re.escape(answer)}"):
        make(**{name: None})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("outer", "kind"), [(BufferingWrapper, DummyVecEnv), (VectorBufferingWrapper, gym.vector.SyncVectorEnv)]
)
def test_a_recorder_inside_a_recorded_vector_environment_warns(outer, kind):
    with pytest.warns(UserWarning, match=r"environment 1 of the \w+ has a BufferingEnvWrapper of its own"):
        outer(kind([CountingEnv, lambda: BufferingEnvWrapper(CountingEnv())]))
    outer(kind([CountingEnv]))


@pytest.mark.parametrize("make", MAKERS)
def test_the_repr_is_one_line_with_the_counters(make):
    env = make(sink=[])
    env.reset()
    env.step(env.action_space.sample() if make is MAKERS[0] else np.zeros(2, int))
    envs = 1 if make is MAKERS[0] else 2
    counters = f"stepped={envs}, held={envs}, popped=0, delivered=0, dropped=0"
    assert repr(env) == str(env) == f"<{type(env).__name__}: num_envs={envs}, {counters}>"


# Sinks


class Moody:
    """A sink that can be told to refuse."""

    def __init__(self) -> None:
        self.taken: list[TrajectoryWithRew] = []
        self.refuses = False

    def append(self, trajectory: TrajectoryWithRew) -> None:
        if self.refuses:
            raise OSError("disk full")
        self.taken.append(trajectory)


def test_a_sink_gets_what_it_refused_when_it_takes_again():
    """In order, and nothing twice; what was popped meanwhile it does not get."""
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(3)]])
    sink = Moody()
    venv = recorder(scenario, sink=sink, error_on_premature_reset=False)
    run(venv, scenario, 0, 1)
    sink.refuses = True
    with pytest.raises(OSError, match="disk full"):
        venv.step(scenario.actions(1))
    assert (venv.held, venv.delivered) == (4, 0)
    with pytest.raises(OSError, match="disk full"):
        venv.reset()
    sink.refuses = False
    venv.reset()
    assert [(len(each), each.episode.ended_by) for each in sink.taken] == [(2, "terminated"), (2, "reset_early")]
    assert (venv.held, venv.delivered, venv.stepped) == (0, 4, 4)


LONG = Scenario(episodes=[[EpisodeScript(9)], [EpisodeScript(7)]])


@pytest.mark.parametrize("space", ["box", "image"])
def test_what_was_refused_is_offered_again_with_the_next_ends(space):
    """Also where the recorder was saved and restored meanwhile."""
    scenario = Scenario(space=space, episodes=[[EpisodeScript(2)], [EpisodeScript(3)]])
    sink = Moody()
    venv = recorder(scenario, sink=sink)
    sink.refuses = True
    run(venv, scenario, 0, 1)
    with pytest.raises(OSError, match="disk full"):
        venv.step(scenario.actions(1))
    state = venv.state_dict()
    sink.refuses = False
    venv.error_on_premature_reset = False
    venv.reset()
    assert [(len(each), each.episode.ended_by) for each in sink.taken] == [(2, "terminated"), (2, "reset_early")]
    assert (venv.held, venv.delivered) == (0, 4)

    resumed = recorder(scenario, sink=(other := Moody()))
    resumed.load_state_dict(state)
    resumed.close()
    assert [(len(each), each.episode.ended_by) for each in other.taken] == [(2, "terminated"), (2, "closed")]
    assert (resumed.held, resumed.delivered) == (0, 4)


class Extending:
    """A sink that takes the episodes of a step at once."""

    def __init__(self) -> None:
        self.batches: list[list[TrajectoryWithRew]] = []

    def append(self, trajectory: TrajectoryWithRew) -> None:
        raise NotImplementedError

    def extend(self, batch) -> None:
        self.batches.append(list(batch))


def test_the_episodes_that_end_in_a_step_come_together():
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(2), EpisodeScript(1)], [EpisodeScript(3)]])
    venv = recorder(scenario, sink=(sink := Extending()))
    run(venv, scenario, 0, 3)
    venv.close()
    got = [[(each.episode.env_index, len(each), each.episode.ended_by) for each in batch] for batch in sink.batches]
    ended = "terminated"
    assert got == [[(0, 2, ended), (1, 2, ended)], [(1, 1, ended), (2, 3, ended)], [(0, 1, "closed")]]


class MoodyBatches(Moody):
    """The same, of a sink that takes all trajectories of a step at once."""

    def extend(self, batch: TrajectoryBatch) -> None:
        if self.refuses:
            raise OSError("disk full")
        self.taken.extend(batch)


@pytest.mark.parametrize("make", [Moody, MoodyBatches])
def test_what_was_refused_is_offered_again(make):
    """At a reset and at a close. A loaded state has it too."""
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(4)], [EpisodeScript(4)]])
    sink = make()
    venv = recorder(scenario, sink=sink, error_on_premature_reset=False)
    run(venv, scenario, 0, 1)
    sink.refuses = True
    with pytest.raises(OSError, match="disk full"):
        venv.step(scenario.actions(1))
    assert (venv.held, venv.delivered) == (6, 0)
    state = venv.state_dict()
    with pytest.raises(OSError, match="disk full"):
        venv.close()
    assert (venv.held, venv.delivered) == (6, 0)

    resumed = recorder(scenario, sink=(other := make()), error_on_premature_reset=False)
    resumed.load_state_dict(state)
    resumed.reset()
    assert [len(each) for each in other.taken] == [2, 2, 2]
    assert (resumed.held, resumed.delivered) == (0, 6)


def test_a_batch_for_all_that_a_step_ended():
    """A sink gets one call a step in which episodes ended."""

    class Batches:
        def append(self, trajectory):
            raise AssertionError("the sink has extend")

        def extend(self, batch):
            calls.append([len(each) for each in batch])

    calls: list[list[int]] = []
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(4)], [EpisodeScript(4)]])
    venv = recorder(scenario, sink=Batches())
    run(venv, scenario, 0, 5)
    assert calls == [[2], [2, 4, 4]]
    venv.close()
    assert calls[2:] == [[1, 1, 1]]


@pytest.mark.parametrize("most", [3, 4, 6, 300])
def test_running_fragments_go_to_the_sink_where_memory_is_full(most):
    sink: list[TrajectoryWithRew] = []
    scenario = Scenario(episodes=[[EpisodeScript(9)], [EpisodeScript(4)], [EpisodeScript(10**6)]])
    venv = recorder(scenario, sink=sink, max_transitions=most, on_full="flush")
    for step in range(30):
        run(venv, scenario, step, step + 1)
        assert venv.held <= most
    venv.close()
    assert_same_steps(sink, scenario, 30)
    assert venv.stepped == venv.delivered == 90


def assert_same_steps(fragments, scenario, steps):
    """Each environment's fragments follow on each other, and are what it did."""
    for env in range(scenario.num_envs):
        expected = [each for each in scenario.recorded(0, steps) if each.env_index == env]
        got = [each for each in fragments if each.episode.env_index == env]
        numbers = sorted({each.episode.id for each in got})
        wholes = [stitch(each for each in got if each.episode.id == number) for number in numbers]
        assert [whole.acts.tolist() for whole in wholes] == [each.acts.tolist() for each in expected]
        assert [whole.rews.tolist() for whole in wholes] == [each.rews.tolist() for each in expected]
        assert [whole.obs.tolist() for whole in wholes] == [each.obs.tolist() for each in expected]


@pytest.mark.parametrize("on_full", ["flush", "hand_over"])
def test_to_flush_takes_a_sink(on_full):
    with pytest.raises(OptionError, match="sink="):
        recorder(max_transitions=4, on_full=on_full)


def test_what_the_sink_refuses_to_take_over_is_refused_as_a_step():
    sink = Moody()
    sink.refuses = True
    scenario = Scenario(episodes=[[EpisodeScript(9)]])
    venv = recorder(scenario, sink=sink, max_transitions=2, on_full="flush")
    run(venv, scenario, 0, 2)
    with pytest.raises(OSError, match="disk full"):
        venv.step(scenario.actions(2))
    assert (venv.held, venv.stepped) == (2, 2)
    sink.refuses = False
    run(venv, scenario, 2, 4)
    assert [len(each) for each in sink.taken] == [2]


def test_joining_in_the_middle_of_episodes():
    base = DummyVecEnv(LONG.env_fns())
    base.seed(7)
    obs = base.reset()
    for step in range(2):
        obs, *_ = base.step(LONG.actions(step))
    base.seed(8)  # for the next reset, not for this episode
    venv = BufferingWrapper(base)
    venv.join(obs, [2] * base.num_envs)
    venv.step(LONG.actions(2))
    trajectories, _ = venv.pop_trajectories()
    for env, each in enumerate(sorted(trajectories, key=lambda each: each.episode.env_index)):
        assert (each.episode.start_step, each.episode.seed, len(each)) == (2, None, 1)
        assert each.episode.reset_info["episode"] == 0
        np.testing.assert_array_equal(each.obs[0], obs[env])


def test_a_long_trajectory_for_a_sink():
    """Longer than a block is at first."""
    scenario = Scenario(episodes=[[EpisodeScript(5000)], [EpisodeScript(3), EpisodeScript(7)]])
    sink: list[TrajectoryWithRew] = []
    venv = recorder(scenario, sink=sink)
    run(venv, scenario, 0, 5010)
    assert_recorded(sink, [each for each in scenario.recorded(0, 5010) if each.terminal])


def test_a_sink_and_pops():
    """What is popped of a running episode does not come to the sink; the rest of it does."""
    sink: list[TrajectoryWithRew] = []
    venv = recorder(sink=sink)
    run(venv, SCENARIO, 0, 4)
    assert venv.pop_finished_trajectories() == ([], [])
    popped, lengths = venv.pop_trajectories()
    assert_recorded(popped, [each for each in SCENARIO.recorded(0, 4) if not each.terminal])
    assert lengths == []
    sunk = len(sink)
    run(venv, SCENARIO, 4, CALLS)
    assert_recorded(sink[sunk:], [each for each in SCENARIO.recorded(4, CALLS) if each.terminal])


# Bounded memory


@pytest.mark.parametrize("most", range(3, 11))
def test_steps_that_fit(most):
    """As many whole steps of all environments as there is room for, and not one more or less."""
    venv = recorder(max_transitions=most)
    run(venv, SCENARIO, 0, most // 3)
    for _ in range(2):
        with pytest.raises(BufferFullError, match=rf"{most // 3 * 3} transitions are held.*max_transitions={most}"):
            venv.step(SCENARIO.actions(0))
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, most // 3))
    run(venv, SCENARIO, most // 3, 2 * (most // 3))
    assert venv.held == most // 3 * 3


def test_finished_trajectories_make_room_when_they_are_popped():
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(8)]])
    venv = recorder(scenario, max_transitions=8)
    run(venv, scenario, 0, 4)
    with pytest.raises(BufferFullError):
        venv.step(scenario.actions(4))
    assert sum(map(len, venv.pop_finished_trajectories()[0])) == 4
    run(venv, scenario, 4, 6)
    with pytest.raises(BufferFullError):
        venv.step(scenario.actions(6))
    assert venv.held == 8


def test_running_fragments_are_never_dropped():
    """Where they alone fill the memory, a step is refused."""
    scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(9)]])
    venv = recorder(scenario, max_transitions=8, on_full="drop_oldest")
    run(venv, scenario, 0, 7)
    with pytest.raises(BufferFullError, match="raise max_transitions"):
        venv.step(scenario.actions(7))
    assert (venv.stepped, venv.held, venv.dropped) == (14, 8, 6)
    trajectories = venv.pop_trajectories()[0]
    assert [(each.episode.env_index, each.episode.start_step, len(each)) for each in trajectories] == [
        (0, 0, 1),
        (1, 0, 7),
    ]


def test_no_more_is_dropped_than_makes_room():
    scenario = Scenario(episodes=[[EpisodeScript(1)]])
    venv = recorder(scenario, max_transitions=5, on_full="drop_oldest")
    for call in range(20):
        run(venv, scenario, call, call + 1)
        assert venv.held == min(call + 1, 5)
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(15, 20))


def test_a_sink_keeps_memory_free():
    venv = recorder(Scenario(), max_transitions=9 * 3, sink=[])
    run(venv, SCENARIO, 0, 500)
    assert venv.delivered + venv.held == venv.stepped == 1500


@pytest.mark.parametrize("lets_go", ["drops", "pops", "sinks"])
def test_memory_follows_what_is_held_and_not_what_was_ever_recorded(lets_go):
    """Something is always held, so that nothing ever starts over."""
    options = {"drops": {"max_transitions": 600, "on_full": "drop_oldest"}, "sinks": {"sink": deque(maxlen=1)}}
    buffer = RolloutBuffer(2, RecordOptions(record_infos="none", **options.get(lets_go, {})))
    obs, rews, acts = np.zeros((2, 100)), np.zeros(2), np.zeros(2, np.int64)

    def memory_after(steps: int) -> int:
        for step in range(steps):
            buffer.act(acts)
            buffer.step(obs, rews, [{}, {}], [Ending(step % 2, True, False, obs[0])] if step % 7 == 0 else ())
            if lets_go == "pops" and step % 100 == 0:
                buffer.pop_finished_trajectories()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        buffer.reset(obs)
        early = memory_after(2500)
        assert memory_after(7500) < 1.5 * early
    finally:
        tracemalloc.stop()
    assert buffer.held > 0


@pytest.mark.parametrize(("size", "steps"), [(100, 1500), pytest.param(17_000, 300, marks=pytest.mark.slow)])
def test_one_long_episode_does_not_keep_the_memory_of_all_the_others(size, steps):
    """It lies among steps that the sink took long ago."""
    buffer = RolloutBuffer(32, RecordOptions(sink=deque(maxlen=1)))
    tracemalloc.start()
    try:
        buffer.reset(np.zeros((32, size)))
        for step in range(1, steps + 1):
            obs = np.full((32, size), step, np.float64)
            buffer.act(np.full(32, step))
            endings = [Ending(env, True, False, obs[env]) for env in range(1, 32)] if step % 10 == 0 else ()
            buffer.step(obs, np.full(32, step, np.float32), [{"step": step}] * 32, endings)
        assert buffer.held == steps
        assert tracemalloc.get_traced_memory()[0] < 0.5 * steps * obs.nbytes
    finally:
        tracemalloc.stop()
    ((trajectory,), _) = buffer.pop_trajectories()
    assert (trajectory.obs == np.arange(steps + 1)[:, None]).all()
    for name in ("acts", "rews"):
        assert (getattr(trajectory, name) == np.arange(1, steps + 1)).all()
    assert [info["step"] for info in trajectory.infos] == list(range(1, steps + 1))


# Infos


def test_no_keys_are_no_entries():
    venv = recorder(record_infos=[])
    run(venv, SCENARIO, 0, 4)
    assert [list(each.infos) for each in venv.pop_trajectories()[0]] == [
        [{}] * len(each) for each in SCENARIO.recorded(0, 4)
    ]


def test_keys_of_the_last_info():
    venv = recorder(record_infos=("terminal_observation",))
    run(venv, SCENARIO, 0, CALLS)
    for trajectory, expected in zip(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        *others, last = trajectory.infos
        assert others == [{}] * (len(expected) - 1)
        assert list(last) == (["terminal_observation"] if expected.terminal else [])
        np.testing.assert_array_equal(last.get("terminal_observation", trajectory.obs[-1]), expected.obs[-1])
