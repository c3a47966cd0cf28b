"""Calls in an order that is unusual, or not allowed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from checks import assert_recorded, run
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from vecrollout import BufferingWrapper
from vecrollout.errors import PrematureResetError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, ScriptedError

SCENARIO = Scenario()


def recorder(**options):
    venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()), **options)
    venv.reset()
    return venv


@pytest.mark.parametrize("pop", ["pop_trajectories", "pop_finished_trajectories", "pop_transitions", "state_dict"])
def test_popping_while_actions_wait_for_their_step(pop):
    venv = recorder()
    run(venv, SCENARIO, 0, 4)
    venv.step_async(SCENARIO.actions(4))
    getattr(venv, pop)()
    venv.step_wait()
    run(venv, SCENARIO, 5, 7)
    finished_before = [each for each in SCENARIO.recorded(0, 4) if each.terminal]
    everything = SCENARIO.recorded(0, 7)
    left = {"state_dict": everything, "pop_finished_trajectories": everything[len(finished_before) :]}
    assert_recorded(venv.pop_trajectories()[0], left.get(pop, SCENARIO.recorded(4, 7)))


def test_popping_while_actions_wait_then_a_full_block():
    """The step that follows counts on room that the pop must not have given away."""
    venv = recorder()
    run(venv, SCENARIO, 0, 1)
    venv.step_async(SCENARIO.actions(1))
    venv.pop_trajectories()
    venv.step_wait()
    run(venv, SCENARIO, 2, 3000)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(1, 3000))


def test_step_wait_without_actions_does_not_step_the_environments():
    venv = recorder()
    run(venv, SCENARIO, 0, 2)
    with pytest.raises(ProtocolError, match="step_async"):
        venv.step_wait()
    run(venv, SCENARIO, 2, 9)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 9))


@pytest.mark.parametrize("half", ["step_async", "step_wait"])
def test_a_subclass_that_changes_half_a_step_changes_the_whole(half):
    """Also where the other half stays as it is."""
    calls = []

    def changed(self, *args):
        calls.append(half)
        return getattr(BufferingWrapper, half)(self, *args)

    venv = type("Changed", (BufferingWrapper,), {half: changed})(DummyVecEnv(SCENARIO.env_fns()))
    venv.reset()
    run(venv, SCENARIO, 0, 9)
    assert calls == [half] * 9
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 9))


def test_a_step_and_its_halves_record_the_same():
    venv = recorder()
    run(venv, SCENARIO, 0, 4)
    for t in range(4, 9):
        venv.step_async(SCENARIO.actions(t))
        venv.step_wait()
    run(venv, SCENARIO, 9, 14)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 14))


def test_step_wait_before_reset():
    venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()))
    with pytest.raises(ProtocolError, match="reset"):
        venv.step_wait()


def test_second_step_async_is_refused_and_the_first_one_counts():
    venv = recorder()
    venv.step_async(SCENARIO.actions(0))
    with pytest.raises(ProtocolError, match="step_wait"):
        venv.step_async(SCENARIO.actions(1))
    venv.step_wait()
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 1))


def test_reset_takes_back_actions_that_wait():
    scenario = Scenario(resets=(2,))
    venv = recorder(error_on_premature_reset=False)
    run(venv, scenario, 0, 2)
    venv.step_async(scenario.actions(7))
    venv.reset()
    run(venv, scenario, 2, 9)
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, 9))


def test_refused_reset_leaves_actions_waiting():
    venv = recorder()
    run(venv, SCENARIO, 0, 2)
    venv.step_async(SCENARIO.actions(2))
    with pytest.raises(PrematureResetError):
        venv.reset()
    venv.step_wait()
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 3))


def test_error_on_premature_reset_can_be_switched():
    scenario = Scenario(resets=(2,))
    venv = recorder()
    run(venv, scenario, 0, 2)
    venv.error_on_premature_reset = False
    venv.reset()
    run(venv, scenario, 2, 5)
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, 5))


@pytest.mark.parametrize("failing", range(3))
def test_a_step_that_fails_is_not_recorded(failing):
    """Environments before the failing one have moved on; nothing of that is recorded."""
    venv = recorder()
    run(venv, SCENARIO, 0, 4)
    venv.unwrapped.envs[failing].fail_next = True
    with pytest.raises(ScriptedError):
        venv.step(SCENARIO.actions(4))
    assert (venv.stepped, venv.held) == (12, 12)
    with pytest.raises(ProtocolError, match="reset"):
        venv.step(SCENARIO.actions(5))
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 4))
    venv.reset()
    run(venv, SCENARIO, 0, 3)
    after = venv.pop_trajectories()[0]
    assert sum(map(len, after)) == 9
    begun = [each for each in after if each.episode.start_step == 0]
    assert {each.episode.env_index for each in begun} == {0, 1, 2}
    assert [list(each.obs[:, 0]) for each in begun] == [
        [50 * e.env_index + 4 * e.reset_info["episode"] + t for t in range(len(each) + 1)]
        for each, e in ((each, each.episode) for each in begun)
    ]


def test_a_failed_step_ends_its_episode_at_the_reset():
    """Where a reset is not refused, what was recorded of the episode is closed by it."""
    venv = recorder(error_on_premature_reset=False)
    run(venv, SCENARIO, 0, 2)
    venv.unwrapped.envs[1].fail_next = True
    with pytest.raises(ScriptedError):
        venv.step(SCENARIO.actions(2))
    venv.reset()
    trajectories = venv.pop_finished_trajectories()[0]
    assert [(len(each), each.episode.ended_by) for each in trajectories] == [
        (1, "truncated"),
        (2, "reset_early"),
        (1, "reset_early"),
        (2, "reset_early"),
    ]


def test_environments_that_refuse_an_early_reset_go_on():
    """`Monitor` raises before anything is reset, so nothing is lost and nothing has to be begun anew."""
    env_fns = [lambda env_fn=env_fn: Monitor(env_fn(), allow_early_resets=False) for env_fn in SCENARIO.env_fns()]
    venv = BufferingWrapper(DummyVecEnv(env_fns), error_on_premature_reset=False)
    venv.reset()
    run(venv, SCENARIO, 0, 2)
    with pytest.raises(RuntimeError, match="early reset"):
        venv.reset()
    run(venv, SCENARIO, 2, 9)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 9))


def test_a_reset_that_fails_half_way_asks_for_another_one():
    """Some environments have begun a new episode: going on would join two episodes."""
    scenario = Scenario(episodes=[[EpisodeScript(5)]] * 2)

    class RefusesOnce(Monitor):
        resets = 0

        def reset(self, **kwargs):
            self.resets += 1
            if self.resets == 2:
                raise ScriptedError
            return super().reset(**kwargs)

    first, second = scenario.env_fns()
    venv = BufferingWrapper(DummyVecEnv([first, lambda: RefusesOnce(second())]), error_on_premature_reset=False)
    venv.reset()
    run(venv, scenario, 0, 2)
    with pytest.raises(ScriptedError):
        venv.reset()
    with pytest.raises(ProtocolError, match="reset"):
        venv.step(scenario.actions(2))
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, 2))
    venv.reset()
    run(venv, scenario, 0, 2)
    assert [len(each) for each in venv.pop_trajectories()[0]] == [2, 2]


class RefusingSink:
    def append(self, trajectory):
        raise OSError("disk full")


def test_environments_are_closed_even_if_the_sink_refuses():
    class Closed(Monitor):
        is_closed = False

        def close(self):
            self.is_closed = True
            super().close()

    base = DummyVecEnv([lambda env_fn=env_fn: Closed(env_fn()) for env_fn in SCENARIO.env_fns()])
    venv = BufferingWrapper(base, sink=RefusingSink())
    venv.reset()
    with pytest.raises(OSError, match="disk full"):
        venv.step(SCENARIO.actions(0))
    with pytest.raises(OSError, match="disk full"):
        venv.close()
    assert all(env.is_closed for env in base.envs)
    assert venv.held == 3


class Dying(CountingEnv):
    """Its process ends in the middle of a step."""

    def step(self, action):
        if self._t == 2:
            os._exit(3)
        return super().step(action)


def test_a_worker_that_dies_loses_nothing_recorded_before():
    venv = BufferingWrapper(SubprocVecEnv([Dying, CountingEnv]))
    venv.reset()
    for _ in range(2):
        venv.step(np.zeros(2, dtype=np.int64))
    with pytest.raises((EOFError, ConnectionError)):
        venv.step(np.zeros(2, dtype=np.int64))
    assert venv.stepped == venv.held == 4
    trajectories, lengths = venv.pop_trajectories()
    assert lengths == []
    for each in trajectories:
        assert (each.obs[:, 0] == np.arange(3)).all()
    for process in venv.unwrapped.processes:
        process.kill()
        process.join()
