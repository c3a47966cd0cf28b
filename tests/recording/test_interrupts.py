"""Ctrl-C at any time: counts add up, what was recorded stays right and can be popped, and after a reset all goes on."""

from __future__ import annotations

import gc
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_recorded, run
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

import vecrollout
from vecrollout import BufferingWrapper, VectorBufferingWrapper
from vecrollout.buffer import arena
from vecrollout.testing import EpisodeScript, Scenario

SCENARIO = Scenario()
PACKAGE = Path(vecrollout.__file__).parent
RECORDER = tuple(str(PACKAGE / part) for part in ("buffer", "recording"))


class Interrupt(KeyboardInterrupt):
    pass


def interrupted_at(point, act):
    """Run `act` and interrupt the recorder's code at that point of it; whether it got that far.

    Python looks for signals when it enters a function, and after it has called one.
    """
    points = 0

    def look(frame, event, argument):
        nonlocal points
        if frame.f_code.co_flags & inspect.CO_GENERATOR and event != "c_return":
            return  # it may be on the point of being deleted, where nobody sees what is raised
        inside = {"call": frame, "c_return": frame, "return": frame.f_back}.get(event)
        if inside is not None and inside.f_code.co_filename.startswith(RECORDER):
            points += 1
            if points == point:
                sys.setprofile(None)
                raise Interrupt

    gc.disable()  # its callbacks, such as Hypothesis's, are no part of the recorder
    sys.setprofile(look)
    try:
        act()
    except Interrupt:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    # Not whether it came through: NumPy swallows what is raised in some of its own functions.
    return points >= point


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(arena, "_FIRST_BLOCK_ROWS", 3)
    monkeypatch.setattr(arena, "_FEWEST_ROWS", 3)


def interrupted(calls, act, **options):
    """Recorders after so many calls, interrupted in `act` at one point after another."""
    for point in range(1, 10_000):
        venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()), error_on_premature_reset=False, **options)
        venv.reset()
        run(venv, SCENARIO, 0, calls)
        if not interrupted_at(point, lambda venv=venv: act(venv)):
            break
        counts = {name: getattr(venv, name) for name in ("held", "popped", "sunk", "dropped")}
        assert venv.stepped == sum(counts.values())
        yield venv
        if point % 5 == 0:  # at all of them it would take too long
            assert_goes_on(venv)
    assert point > 10


def assert_goes_on(venv):
    venv.reset()
    venv.pop_trajectories()
    before = venv.stepped
    run(venv, SCENARIO, 0, 2)
    assert venv.stepped == before + 6
    trajectories = venv.pop_trajectories()[0]
    assert trajectories
    for trajectory in trajectories:
        first = 50 * trajectory.episode.env_index + 4 * trajectory.episode.reset_info["episode"]
        assert trajectory.obs[:, 0].tolist() == [first + t for t in range(len(trajectory) + 1)]


@pytest.mark.parametrize("calls", [0, 1, 3, 4])
def test_a_step(calls):
    """It is recorded, or it is not."""
    for venv in interrupted(calls, lambda venv: venv.step(SCENARIO.actions(calls))):
        assert venv.stepped in (3 * calls, 3 * calls + 3)
        assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, venv.stepped // 3))


@pytest.mark.skipif("next_step" not in MODES, reason="this gymnasium does not have the rule")
@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_a_step_in_which_episodes_end_and_others_begin(calls, looks):
    """Some environments wait, some are reset; it is all recorded, or nothing of it, whether it was looked at or not."""
    episodes = [[EpisodeScript(1), EpisodeScript(2)], [EpisodeScript(3)], [EpisodeScript(9)]]
    scenario = Scenario(episodes=episodes, has_dead_calls=True)
    for point in range(1, 10_000):
        env = VectorBufferingWrapper(sync_env(scenario.env_fns(), "next_step"), error_on_premature_reset=False)
        env.reset()
        run(env, scenario, 0, calls)
        act = lambda env=env: (env.step(scenario.actions(calls)), looks and env.held)  # noqa: E731
        if not interrupted_at(point, act):
            break
        assert env.stepped == env.held
        assert env.stepped in (scenario.steps(calls), scenario.steps(calls + 1))
        was_recorded = env.stepped == scenario.steps(calls + 1)
        assert_recorded(env.pop_trajectories()[0], scenario.recorded(0, calls + was_recorded), np.float64)
        env.reset()
        run(env, scenario, 0, 1)
        assert env.held == 3
    assert point > 10


def test_looking():
    """What was recorded is all there, whatever of it was written already, and can be looked at again."""
    for venv in interrupted(5, lambda venv: venv.held):
        assert venv.stepped == 15
        assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 5))


@pytest.mark.parametrize("pop", ["pop_trajectories", "pop_finished_trajectories", "pop_transitions"])
def test_a_pop(pop):
    """All is popped, or nothing; in the middle of an episode, or where memory is taken up again."""
    for venv in interrupted(5, lambda venv: getattr(venv, pop)()):
        left = SCENARIO.recorded(0, 5)
        if venv.popped:
            left = [each for each in left if pop == "pop_finished_trajectories" and not each.terminal]
        assert venv.held == sum(map(len, left))
        assert_recorded(venv.pop_trajectories()[0], left)


def test_a_reset():
    """What ran is closed, or runs."""
    recorded = [SCENARIO.recorded(0, 5), Scenario(resets=(5,)).recorded(0, 5)]
    for venv in interrupted(5, lambda venv: venv.reset()):
        trajectories = venv.pop_trajectories()[0]
        was_closed = trajectories[-1].episode.ended_by is not None
        assert_recorded(trajectories, recorded[was_closed])


def test_a_reset_that_drops():
    for venv in interrupted(5, lambda venv: venv.reset(), early_reset="drop"):
        expected = [each for each in SCENARIO.recorded(0, 5) if each.terminal or not venv.dropped]
        assert_recorded(venv.pop_trajectories()[0], expected)


def test_closing():
    for venv in interrupted(5, lambda venv: venv.close()):
        trajectories = venv.pop_trajectories()[0]
        was_closed = trajectories[-1].episode.ended_by is not None
        assert_recorded(trajectories, SCENARIO.recorded(0, 5, closed=was_closed))


def test_loading_a_state():
    """All of it, or nothing."""
    saved = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()))
    saved.reset()
    run(saved, SCENARIO, 0, 3)
    state = saved.state_dict()
    for venv in interrupted(5, lambda venv: venv.load_state_dict(state)):
        assert venv.stepped in (9, 15)
        assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, venv.stepped // 3))


def test_dropping_the_oldest():
    act = lambda venv: venv.step(SCENARIO.actions(5))  # noqa: E731
    for venv in interrupted(5, act, max_transitions=15, on_full="drop_oldest"):
        everything = SCENARIO.recorded(0, venv.stepped // 3)
        gone = 0
        while sum(map(len, everything[:gone])) < venv.dropped:
            gone += 1
        assert_recorded(venv.pop_trajectories()[0], everything[gone:])


def test_handing_over_to_a_sink():
    """A trajectory is taken once, unless the interrupt came when it had just been: then it is held as well."""
    sinks = []

    class Sink(list):
        def __init__(self):
            super().__init__()
            sinks.append(self)

    for point in range(1, 10_000):
        venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()), error_on_premature_reset=False, sink=Sink())
        venv.reset()
        run(venv, SCENARIO, 0, 2)
        if not interrupted_at(point, lambda venv=venv: venv.step(SCENARIO.actions(2))):
            break
        assert venv.stepped == venv.held + venv.sunk
        held = venv.pop_trajectories()[0]
        taken = sinks[-1]
        if held and taken and held[0].episode == taken[-1].episode:
            taken.pop()
        assert_recorded([*taken, *held], SCENARIO.recorded(0, venv.stepped // 3))
        assert_goes_on(venv)
