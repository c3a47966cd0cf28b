"""Ctrl-C at any time: counts add up, what was recorded stays right and can be popped, and after a reset all goes on."""

from __future__ import annotations

import gc
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_recorded, run
from gymnasium import spaces
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

import vecrollout
from vecrollout import BufferingWrapper, TraceCallback, VectorBufferingWrapper, open_traces
from vecrollout.errors import ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario

SCENARIO = Scenario()
PACKAGE = Path(vecrollout.__file__).parent
RECORDER = tuple(str(PACKAGE / part) for part in ("buffer", "recording"))


class Interrupt(KeyboardInterrupt):
    pass


def interrupted_at(point, act):
    """Run `act` and interrupt the recorder's code at that point of it; whether it got that far."""
    # Not whether it came through: NumPy swallows what is raised in some of its own functions.
    return points_of(act, point) >= point


def points_of(act, point=None):
    """Run `act`, and interrupt the recorder's code at a point of it; how many points it came to.

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
    return points


def interrupted(calls, act, scenario=SCENARIO, **options):
    """Recorders after so many calls, interrupted in `act` at one point after another."""
    for point in range(1, 10_000):
        venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), error_on_premature_reset=False, **options)
        venv.reset()
        run(venv, scenario, 0, calls)
        if not interrupted_at(point, lambda venv=venv: act(venv)):
            break
        counts = {name: getattr(venv, name) for name in ("held", "popped", "delivered", "dropped")}
        assert venv.stepped == sum(counts.values())
        yield venv
        if point % 5 == 0:  # at all of them it would take too long
            assert_goes_on(venv, scenario)
    assert point > 10


def assert_goes_on(venv, scenario=SCENARIO):
    venv.reset()
    venv.pop_trajectories()
    before = venv.stepped
    run(venv, scenario, 0, 2)
    assert venv.stepped == before + 6
    trajectories = venv.pop_trajectories()[0]
    assert trajectories
    for trajectory in trajectories:
        first = 50 * trajectory.episode.env_index + 4 * trajectory.episode.reset_info["episode"]
        assert trajectory.obs.reshape(len(trajectory.obs), -1)[:, 0].tolist() == [
            first + t for t in range(len(trajectory) + 1)
        ]


@pytest.mark.parametrize("calls", [0, 1, 3, 4])
def test_a_step(calls):
    """It is recorded, or it is not."""
    for venv in interrupted(calls, lambda venv: venv.step(SCENARIO.actions(calls))):
        assert venv.stepped in (3 * calls, 3 * calls + 3)
        assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, venv.stepped // 3))


@pytest.mark.skipif("next_step" not in MODES, reason="this gymnasium does not have the rule")
@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_a_step_in_which_episodes_end_and_others_begin(calls):
    """Some environments wait, some are reset; it is all recorded, or nothing of it."""
    episodes = [[EpisodeScript(1), EpisodeScript(2)], [EpisodeScript(3)], [EpisodeScript(9)]]
    scenario = Scenario(episodes=episodes, has_dead_calls=True)
    for point in range(1, 10_000):
        env = VectorBufferingWrapper(sync_env(scenario.env_fns(), "next_step"), error_on_premature_reset=False)
        env.reset()
        run(env, scenario, 0, calls)
        if not interrupted_at(point, lambda env=env: env.step(scenario.actions(calls))):
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
    """What was recorded is all there."""
    for venv in interrupted(5, repr):
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


@pytest.mark.skipif("disabled" not in MODES, reason="this gymnasium does not have the rule")
@pytest.mark.parametrize("mask", [None, [True, False, True]], ids=["all", "some"])
def test_a_reset_of_a_vector_environment(mask):
    """Where the environments were reset and nothing of it was recorded, no step goes on with the old episodes."""
    scenario = Scenario(episodes=[[EpisodeScript(9)]] * 3)
    goes_on = 0
    for point in range(1, 10_000):
        env = VectorBufferingWrapper(sync_env(scenario.env_fns(), "disabled"), error_on_premature_reset=False)
        env.reset()
        run(env, scenario, 0, 2)
        options = None if mask is None else {"reset_mask": np.array(mask)}
        if not interrupted_at(point, lambda env=env, options=options: env.reset(options=options)):
            break
        assert env.stepped == env.held == 6
        try:
            run(env, scenario, 2, 4)
        except ProtocolError:
            env.reset()
            run(env, scenario, 0, 1)
        else:
            goes_on += 1
        trajectories = env.pop_trajectories()[0]
        assert sum(map(len, trajectories)) == env.stepped
        assert all((np.diff(each.obs[:, 0]) == 1).all() for each in trajectories)
    assert point > 10
    assert goes_on


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


FRAMES = Scenario(space=spaces.Box(0, 255, (32, 32), np.uint8))


def busiest_call(scenario, make):
    """Of the first 20 calls the one in which the recorder does most: that has no room for the step, and makes some."""
    venv, _ = make()
    points = [points_of(lambda calls=calls: run(venv, scenario, calls, calls + 1)) for calls in range(20)]
    return points.index(max(points))


@pytest.mark.parametrize("scenario", [SCENARIO, FRAMES], ids=["small rows", "large rows"])
def test_handing_over_to_a_sink(scenario):
    """A trajectory is taken once, unless the interrupt came when it had just been: then it is held as well."""

    def make():
        sink = []
        options = {"sink": sink, "max_transitions": 24}  # so that memory for few large rows is reserved
        venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), error_on_premature_reset=False, **options)
        venv.reset()
        return venv, sink

    for calls in (2, busiest_call(scenario, make)):
        for point in range(1, 10_000):
            venv, taken = make()
            run(venv, scenario, 0, calls)
            if not interrupted_at(point, lambda venv=venv, calls=calls: venv.step(scenario.actions(calls))):
                break
            assert venv.stepped == venv.held + venv.delivered
            held = venv.pop_trajectories()[0]
            again = {each.episode.id for each in held}
            taken = [each for each in taken if each.episode.id not in again]
            assert_recorded([*taken, *held], scenario.recorded(0, venv.stepped // 3))
            if point % 5 == 0:
                assert_goes_on(venv, scenario)
        assert point > 10


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_the_beginning_of_training(every, tmp_path):
    """Training that begins anew is recorded, and each step once."""

    class Chooses(CountingEnv):
        def __init__(self):
            super().__init__(episodes=[EpisodeScript(9)])
            self.action_space = spaces.Discrete(2)

    venv = DummyVecEnv([Chooses])
    model = A2C("MlpPolicy", venv, device="cpu").learn(5)
    for point in range(1, 10_000):
        callback = TraceCallback(tmp_path / "interrupted", overwrite=True)
        callback.init_callback(model)
        if not interrupted_at(point, lambda callback=callback: callback.on_training_start({}, {})):
            break
        if point % every:
            continue
        again = callback if point % 2 else TraceCallback(tmp_path / f"{point}")
        model.learn(5, again, reset_num_timesteps=False)
        assert open_traces(again.directory).total_steps == 5
        assert not {"reset", "step_async", "step_wait", "env_method"} & vars(venv).keys()
        venv.step([0])
    callback.close()
    assert point > 10
