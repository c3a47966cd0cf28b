"""What is recorded is a copy; what is returned is not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from checks import assert_recorded, run
from custom_venv import CustomVecEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper
from vecrollout.testing import VEC_ENV_SPACES, CountingEnv, EpisodeScript, Scenario, assert_same, leaves_of
from vecrollout.testing.conformance import RecorderConformance

CALLS = 13


class TestVecEnvThatReusesItsArrays(RecorderConformance):
    """And whose observations may nest, which those of Stable-Baselines3 may not."""

    spaces = (*VEC_ENV_SPACES, "nested")

    def make_recorder(self, env_fns, **options):
        return BufferingWrapper(CustomVecEnv(env_fns, reuses_arrays=True), **options)


@pytest.mark.parametrize("kind", [DummyVecEnv, CustomVecEnv])
def test_infos_that_an_environment_goes_on_to_fill(kind):
    """Those of its resets, too; and a `VecEnv` of one's own may return the same dicts at every step."""

    class Filling(CountingEnv):
        def __init__(self):
            super().__init__("box", [EpisodeScript(3)])
            self.info = {"path": []}

        def reset(self, **kwargs):
            obs, _ = super().reset(**kwargs)
            self.info["path"][:] = [0]
            return obs, self.info

        def step(self, action):
            *returned, _ = super().step(action)
            self.info["path"].append(self._t)
            return *returned, self.info

    venv = BufferingWrapper(kind([Filling]))
    venv.reset()
    for _ in range(4):
        venv.step(np.zeros(1, np.int64))
    first, second = venv.pop_trajectories()[0]
    assert [info["path"] for info in [*first.infos[:2], *second.infos]] == [[0, 1], [0, 1, 2], [0, 1]]
    assert first.episode.reset_info["path"] == second.episode.reset_info["path"] == [0]


@pytest.mark.parametrize("reuses", [False, True])
def test_infos_of_other_vec_envs_are_copied(reuses):
    """Such a `VecEnv` may fill the same dicts at every step."""
    venv = BufferingWrapper(CustomVecEnv([lambda: CountingEnv("box", [EpisodeScript(99)], reuse_info=reuses)]))
    venv.reset()
    returned = [venv.step(np.zeros(1, np.int64))[3][0] for _ in range(50)]
    (trajectory,) = venv.pop_trajectories()[0]
    assert [info["t"] for info in trajectory.infos] == list(range(1, 51))
    assert not any(info is each for info, each in zip(trajectory.infos, returned, strict=True))


def test_infos_of_sb3s_own_vec_envs_are_kept_as_they_are():
    """`DummyVecEnv` makes new ones at every step."""
    venv = BufferingWrapper(DummyVecEnv([lambda: CountingEnv("box", [EpisodeScript(99)])]))
    venv.reset()
    returned = [venv.step(np.zeros(1, np.int64))[3][0] for _ in range(3)]
    (trajectory,) = venv.pop_trajectories()[0]
    assert all(info is each for info, each in zip(trajectory.infos, returned, strict=True))


def spoil(array):
    """Change an array in place, if it is one."""
    if isinstance(array, np.ndarray):
        array[...] = array + 77


@pytest.mark.parametrize("space", VEC_ENV_SPACES)
def test_the_caller_may_do_anything_with_what_a_step_returned(space):
    scenario = Scenario(space=space)
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    for leaf in leaves_of(venv.reset()):
        spoil(leaf)
    last_infos = []
    for call in range(CALLS):
        actions = scenario.actions(call)
        obs, rews, dones, infos = venv.step(actions)
        finishing = [infos[env] for env in np.flatnonzero(dones)]
        last_infos += [copy.deepcopy(info) for info in finishing]
        for leaf in [*leaves_of(obs), rews, actions]:
            spoil(leaf)
        dones[...] = ~dones
        for info in finishing:
            for leaf in leaves_of(info["terminal_observation"]):
                spoil(leaf)
            info.clear()
        infos.clear()
    trajectories = venv.pop_trajectories()[0]
    assert_recorded(trajectories, scenario.recorded(0, CALLS))
    assert_same([each.infos[-1] for each in trajectories if each.terminal], last_infos)


@pytest.mark.parametrize("space", ["box", "dict", "tuple"])
def test_what_is_returned_is_the_environments_own(space):
    """Unchanged, and the same objects; the same goes for the actions on their way down."""
    scenario = Scenario(space=space)
    returned = []
    base = CustomVecEnv(scenario.env_fns(), alter=lambda arrays: returned.append(tuple(arrays)) or returned[-1])
    resets = []
    base.own = lambda arrays: resets.append(arrays[0]) or arrays
    venv = BufferingWrapper(base)
    assert venv.reset() is resets[0]
    for call in range(CALLS):
        actions = scenario.actions(call)
        step = venv.step(actions)
        assert step is returned[-1]
        assert base.actions is actions
        _, _, dones, infos = step
        assert ["terminal_observation" in info for info in infos] == list(dones)


def test_popped_arrays_are_read_only_where_they_are_views():
    """Writing to them could reach what is still held: the last observation of a fragment is the next one's first."""
    scenario = Scenario()
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    venv.reset()
    run(venv, scenario, 0, 2)
    fragment = venv.pop_trajectories()[0][-1]
    for array in (fragment.obs, fragment.acts, fragment.rews):
        with pytest.raises(ValueError, match="read-only"):
            array[-1] = 0


def test_popped_transitions_are_the_callers_to_change():
    scenario = Scenario()
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    venv.reset()
    run(venv, scenario, 0, 4)
    transitions = venv.pop_transitions()
    for array in (transitions.obs, transitions.next_obs, transitions.acts, transitions.rews, transitions.dones):
        array[...] = 0
    run(venv, scenario, 4, CALLS)
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(4, CALLS))


@pytest.mark.parametrize(
    ("base", "copy_infos", "copies"),
    [
        (DummyVecEnv, None, False),
        (DummyVecEnv, True, True),
        (CustomVecEnv, None, True),
        (CustomVecEnv, False, False),
    ],
)
def test_infos_are_copied_where_they_may_be_filled_again_or_as_the_caller_says(base, copy_infos, copies):
    scenario = Scenario(episodes=[[EpisodeScript(9)]] * 2)
    venv = BufferingWrapper(base(scenario.env_fns()), copy_infos=copy_infos)
    venv.reset()
    *_, infos = venv.step(scenario.actions(0))
    kept = venv.pop_transitions().infos
    assert [mine is theirs for mine, theirs in zip(kept, infos, strict=True)] == [not copies] * 2
