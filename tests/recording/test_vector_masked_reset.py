"""Resets of some environments by a mask: the normal way where autoreset is disabled, and possible under every rule."""

from __future__ import annotations

import numpy as np
import pytest
from checks import run
from vector_envs import HAS_MODES, RULES, async_env, sync_env

from vecrollout import VectorBufferingWrapper
from vecrollout.errors import PrematureResetError, ProtocolError
from vecrollout.recording.environments import VectorWrapper
from vecrollout.testing import EpisodeScript, Scenario, assert_same

pytestmark = pytest.mark.skipif(not HAS_MODES, reason="this gymnasium does not reset by masks")

SCENARIO = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(5)], [EpisodeScript(2, "truncated")]])


def recorder_of(mode="disabled", make=sync_env, scenario=SCENARIO, **options):
    recorder = VectorBufferingWrapper(make(scenario.env_fns(), mode), **options)
    recorder.reset(seed=30)
    return recorder


def steps(recorder, *calls):
    for call in calls:
        recorder.step(SCENARIO.actions(call))


def masked(recorder, *mask, **kwargs):
    options = {"reset_mask": np.array(mask, dtype=bool)}
    return recorder.reset(options=options, **kwargs)


def numbers(trajectory):
    """What the environment counted: 50 for each environment before it, 4 for each of its episodes before."""
    (first, *_), step = trajectory.obs[:, 0], np.diff(trajectory.obs[:, 0])
    assert (step == 1).all()
    return int(first), len(trajectory)


@pytest.mark.parametrize("make", [sync_env, async_env])
def test_finished_environments_are_never_premature(make):
    """Whatever is held: the running fragment of another one, and finished trajectories."""
    recorder = recorder_of(make=make)
    steps(recorder, 0, 1)
    assert recorder.held == 6
    masked(recorder, True, False, True)
    steps(recorder, 2, 3)
    trajectories, lengths = recorder.pop_trajectories()
    assert list(lengths) == [2, 2, 2, 2]
    assert [numbers(each) for each in trajectories] == [(0, 2), (100, 2), (4, 2), (104, 2), (50, 4)]
    ends = ["terminated", "truncated", "terminated", "truncated", None]
    assert [each.episode.ended_by for each in trajectories] == ends
    assert [each.episode.seed for each in trajectories] == [30, 32, None, None, 31]
    assert (recorder.stepped, recorder.popped, recorder.dropped) == (12, 12, 0)
    recorder.close()


def test_some_of_the_finished_environments():
    """The other one goes on to wait."""
    recorder = recorder_of()
    steps(recorder, 0, 1)
    masked(recorder, True, False, False)
    masked(recorder, False, False, True)
    steps(recorder, 2)
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(0, 2), (100, 2), (4, 1), (50, 3), (104, 1)]


@pytest.mark.parametrize("mode", RULES)
def test_in_the_middle_of_an_episode_it_is_refused(mode):
    """Nothing was reset: the same episodes go on."""
    recorder = recorder_of(mode)
    steps(recorder, 0)
    with pytest.raises(PrematureResetError, match="3 transitions are held"):
        masked(recorder, False, True, False)
    with pytest.raises(PrematureResetError):
        masked(recorder, True, True, True)
    steps(recorder, 1)
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(0, 2), (100, 2), (50, 2)]


def test_a_finished_and_a_running_one_together_are_refused():
    recorder = recorder_of()
    steps(recorder, 0, 1)
    with pytest.raises(PrematureResetError):
        masked(recorder, True, True, True)
    masked(recorder, True, False, True)
    steps(recorder, 2)
    assert recorder.held == 9


@pytest.mark.parametrize("mode", RULES)
def test_in_the_middle_it_ends_only_those_of_the_mask(mode):
    """Where it is not refused: their fragments are finished (`reset_early`), the others go on."""
    recorder = recorder_of(mode, error_on_premature_reset=False)
    steps(recorder, 0)
    masked(recorder, False, True, False, seed=70)
    steps(recorder, 1)
    trajectories, lengths = recorder.pop_trajectories()
    assert list(lengths) == [2, 2]
    assert [numbers(each) for each in trajectories] == [(50, 1), (0, 2), (100, 2), (54, 1)]
    assert [each.episode.ended_by for each in trajectories] == ["reset_early", "terminated", "truncated", None]
    assert [each.episode.seed for each in trajectories] == [31, 30, 32, 71]
    assert [each.terminal for each in trajectories] == [False, True, True, False]


def test_in_the_middle_it_drops_only_those_of_the_mask():
    recorder = recorder_of(error_on_premature_reset=False, early_reset="drop")
    steps(recorder, 0)
    masked(recorder, False, True, False)
    steps(recorder, 1)
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(0, 2), (100, 2), (54, 1)]
    assert (recorder.stepped, recorder.popped, recorder.dropped) == (6, 5, 1)


def test_once_everything_was_popped_it_is_not_premature():
    recorder = recorder_of()
    steps(recorder, 0)
    recorder.pop_trajectories()
    masked(recorder, False, True, False)
    steps(recorder, 1)
    trajectories = recorder.pop_trajectories()[0]
    assert [numbers(each) for each in trajectories] == [(1, 1), (101, 1), (54, 1)]
    assert [each.episode.start_step for each in trajectories] == [1, 1, 0]


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_by_a_mask_instead_of_by_the_next_step(mode):
    """An environment that waits for its reset gets it, and the next step is one of its new episode."""
    recorder = recorder_of(mode)
    steps(recorder, 0, 1)
    masked(recorder, True, False, True)
    steps(recorder, 2)
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(0, 2), (100, 2), (4, 1), (50, 3), (104, 1)]
    assert recorder.stepped == 9


@pytest.mark.parametrize("mode", RULES)
def test_a_full_reset_forgets_what_was_pending(mode):
    """The step after it is nobody's reset."""
    recorder = recorder_of(mode)
    steps(recorder, 0, 1)
    recorder.pop_trajectories()
    recorder.reset()
    steps(recorder, 2)
    episode = 8 if mode == "same_step" else 4  # the same step began another one
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(episode, 1), (54, 1), (100 + episode, 1)]
    assert recorder.stepped == 9


def test_the_environment_takes_the_mask_out_of_the_callers_dict():
    """So the recorder has to read it first; the other options arrive."""
    recorder = recorder_of()
    steps(recorder, 0, 1)
    options = {"reset_mask": np.array([True, False, True]), "level": 3}
    recorder.reset(options=options)
    assert options == {"level": 3}
    steps(recorder, 2)
    trajectories = recorder.pop_trajectories()[0]
    assert [each.episode.reset_info.get("options") for each in trajectories] == [
        None,
        None,
        {"level": 3},
        None,
        {"level": 3},
    ]


def test_a_mask_that_the_caller_reuses():
    recorder = recorder_of()
    mask = np.array([True, False, True])
    for call in range(2):
        steps(recorder, 2 * call, 2 * call + 1)
        recorder.reset(options={"reset_mask": mask})
        assert mask.tolist() == [True, False, True]
    assert [numbers(each) for each in recorder.pop_finished_trajectories()[0]] == [(0, 2), (100, 2), (4, 2), (104, 2)]


def test_rows_of_environments_that_are_not_reset_are_stale():
    """What the reset returns for them is not looked at; that of the reset ones is recorded."""
    inner = sync_env(SCENARIO.env_fns(), "disabled")
    reset = inner.reset

    def stale(*, seed=None, options=None):
        given = None if options is None else options["reset_mask"]
        obs, infos = reset(seed=seed, options=options)
        if given is not None:
            obs = obs.copy()
            obs[~given] = -99
            given[...] = True  # its own affair as well
        return obs, infos

    inner.reset = stale
    recorder = VectorBufferingWrapper(inner)
    recorder.reset()
    steps(recorder, 0, 1)
    masked(recorder, True, False, True)
    steps(recorder, 2)
    assert [numbers(each) for each in recorder.pop_trajectories()[0]] == [(0, 2), (100, 2), (4, 1), (50, 3), (104, 1)]


def test_seeds_one_an_environment():
    recorder = recorder_of()
    steps(recorder, 0, 1)
    masked(recorder, True, False, True, seed=[5, 6, 7])
    steps(recorder, 2)
    assert [each.episode.seed for each in recorder.pop_trajectories()[0]] == [30, 32, 5, 31, 7]


@pytest.mark.parametrize("mask", [[1, 0, 1], [True, False], [False, False, False]])
def test_a_mask_that_the_environment_refuses(mask):
    """What was recorded stays; nobody can tell whether anything was reset, so all have to be before the next step."""
    recorder = recorder_of(error_on_premature_reset=False)
    steps(recorder, 0, 1)
    with pytest.raises((AssertionError, TypeError, ValueError)):
        recorder.reset(options={"reset_mask": np.array(mask)})
    with pytest.raises(ProtocolError, match="reset"):
        steps(recorder, 2)
    masked(recorder, True, False, True)
    with pytest.raises(ProtocolError, match="reset"):
        steps(recorder, 2)
    assert recorder.held == 6
    recorder.reset()
    steps(recorder, 2)
    assert recorder.held == 9


class ResetsBelow(VectorWrapper):
    """Resets environments of the rule "disabled" by itself, below the recorder."""

    def __init__(self, env):
        super().__init__(env)
        self.over = None

    def step(self, actions):
        if self.over is not None and self.over.any():
            self.env.reset(options={"reset_mask": self.over.copy()})
        returned = self.env.step(actions)
        self.over = returned[2] | returned[3]
        return returned


def test_a_masked_reset_below_the_recorder():
    """Which observation was the first is unknown. Nothing of two episodes is joined, and the user is told once."""
    scenario = Scenario()
    recorder = VectorBufferingWrapper(ResetsBelow(sync_env(scenario.env_fns(), "disabled")))
    recorder.reset()
    message = r"environment \d: stepped after its episode ended.*below that wrapper"
    with pytest.warns(UserWarning, match=message) as warned:
        run(recorder, scenario, 0, 13)
    assert len(warned) == 1
    firsts = [each for each in scenario.recorded(0, 13) if not each.episode]
    for trajectory, expected in zip(recorder.pop_trajectories()[0], firsts, strict=True):
        assert_same(trajectory.obs, expected.obs)
