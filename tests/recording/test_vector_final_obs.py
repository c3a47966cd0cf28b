"""True last observations of environments that are reset in the same step: where they are, and what if they are not."""

from __future__ import annotations

import numpy as np
import pytest
from custom_vector_env import CustomVectorEnv, with_final_obs

from vecrollout import VectorBufferingWrapper
from vecrollout.errors import MissingTerminalObservationError, OptionError, ProtocolError
from vecrollout.testing import EpisodeScript, Scenario, assert_same

CALLS = 13


def stacked_final_obs(step):
    """ALE's way: an array with a row an environment, and no mask."""
    last = step[-1].pop("last")
    if any(each is not None for each in last):
        step[-1]["final_obs"] = batched(last, step[0])
    return tuple(step)


def batched(last, like):
    """Rows of environments whose episodes go on hold something else."""
    if isinstance(like, dict):
        return {key: batched([each and each[key] for each in last], like[key]) for key in like}
    if isinstance(like, tuple):
        return tuple(batched([each and each[i] for each in last], like[i]) for i in range(len(like)))
    return np.stack([like[i] * 0 + 77 if each is None else each for i, each in enumerate(last)])


def elsewhere(step):
    last = step[-1].pop("last")
    step[-1]["engine"] = {"ends": list(last)}
    return tuple(step)


def nowhere(step):
    del step[-1]["last"]
    return tuple(step)


def recorded(scenario, alter, calls=CALLS, **options):
    env = CustomVectorEnv(scenario.env_fns(), alter=alter)
    recorder = VectorBufferingWrapper(env, autoreset_mode="same_step", **options)
    recorder.reset()
    for call in range(calls):
        recorder.step(scenario.actions(call))
    return recorder


def assert_recorded(trajectories, expected):
    assert [len(each) for each in trajectories] == [len(each) for each in expected]
    for trajectory, each in zip(trajectories, expected, strict=True):
        assert_same(trajectory.obs, each.obs)
        assert_same(trajectory.acts, each.acts)
        assert_same(trajectory.rews, each.rews)
        assert trajectory.episode.ended_by == each.ended_by


@pytest.mark.parametrize("space", ["box", "image", "discrete", "dict", "tuple", "nested"])
@pytest.mark.parametrize(
    ("alter", "options"),
    [
        (with_final_obs("final_obs"), {}),
        (with_final_obs("final_observation"), {}),
        (stacked_final_obs, {}),
        (elsewhere, {"final_obs_fn": lambda infos: np.array([*infos["engine"]["ends"], None], dtype=object)}),
    ],
    ids=["final_obs", "final_observation", "stacked", "final_obs_fn"],
)
def test_where_it_may_be(space, alter, options):
    scenario = Scenario(space=space)
    recorder = recorded(scenario, alter, **options)
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_the_function_goes_before_what_the_infos_say():
    """An environment whose `final_obs` means something else."""

    def alter(step):
        step[-1]["final_obs"] = np.full_like(step[0], -1)
        return elsewhere(step)

    scenario = Scenario()
    recorder = recorded(scenario, alter, final_obs_fn=lambda infos: infos["engine"]["ends"])
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_missing_ones_are_an_error():
    """It names place and cures; what was recorded before can be popped, and after a reset stepping goes on."""
    scenario = Scenario(episodes=[[EpisodeScript(5)], [EpisodeScript(3)]])
    recorder = recorded(scenario, nowhere, calls=2)
    message = r"environment 1, step 2 .* infos\[\"final_obs\"\].*final_obs_fn=.*missing_final_obs=.*autoreset_mode="
    with pytest.raises(MissingTerminalObservationError, match=message):
        recorder.step(scenario.actions(2))
    with pytest.raises(ProtocolError, match="reset"):
        recorder.step(scenario.actions(3))
    assert_recorded(recorder.pop_trajectories()[0], scenario.recorded(0, 2))
    recorder.reset()
    recorder.step(scenario.actions(0))
    assert (recorder.held, recorder.stepped) == (2, 6)


def test_a_mask_that_says_it_is_not_there():
    """As Gymnasium's arrays have rows for all environments."""

    def alter(step):
        step[-1] = {"final_obs": np.zeros_like(step[0]), "_final_obs": np.zeros(len(step[1]), dtype=bool)}
        return tuple(step)

    with pytest.raises(MissingTerminalObservationError):
        recorded(Scenario(), alter)


def test_missing_ones_can_be_dropped():
    """The transition before them goes, and is counted; the rest of the episode is kept, as one that did not end."""
    scenario = Scenario()
    recorder = recorded(scenario, nowhere, missing_final_obs="drop")
    expected = scenario.recorded(0, CALLS)
    ended = [each for each in expected if each.terminal]
    trajectories, lengths = recorder.pop_trajectories()
    assert list(lengths) == []
    rows = [(each, len(each) - 1 if each.terminal else len(each)) for each in expected]
    rows = [(each, steps) for each, steps in rows if steps]
    assert [len(trajectory) for trajectory in trajectories] == [steps for _, steps in rows]
    for trajectory, (each, steps) in zip(trajectories, rows, strict=True):
        assert_same(trajectory.obs, each.obs[: steps + 1])
        assert_same(trajectory.acts, each.acts[:steps])
        assert_same(trajectory.rews, each.rews[:steps])
        assert (trajectory.terminal, trajectory.terminated, trajectory.truncated) == (False, False, False)
        assert trajectory.episode.ended_by is None
    assert (recorder.stepped, recorder.dropped, recorder.held) == (CALLS * 3, len(ended), 0)
    assert recorder.popped == CALLS * 3 - len(ended)


@pytest.mark.parametrize("space", ["box", "dict", "text"])
def test_missing_ones_can_be_marked(space):
    """The observation before stands in, and the info of the last step, of no other, says so."""
    scenario = Scenario(space=space)
    recorder = recorded(scenario, nowhere, missing_final_obs="mark")
    trajectories, lengths = recorder.pop_trajectories()
    expected = scenario.recorded(0, CALLS)
    assert list(lengths) == [each.stop_step for each in expected if each.terminal]
    for trajectory, each in zip(trajectories, expected, strict=True):
        rows = [*range(len(each)), len(each) - each.terminal]
        assert_same(trajectory.obs, each.obs[rows] if space != "dict" else {k: v[rows] for k, v in each.obs.items()})
        assert_same(trajectory.rews, each.rews)
        marks = ["final_obs_missing" in info for info in trajectory.infos]
        assert marks == [False] * (len(each) - 1) + [each.terminal]
        assert (trajectory.terminated, trajectory.truncated) == (each.terminated, each.truncated)
    assert recorder.dropped == 0


def test_a_function_that_has_none_for_an_environment():
    """It counts as missing."""
    scenario = Scenario()
    with pytest.raises(MissingTerminalObservationError):
        recorded(scenario, nowhere, final_obs_fn=lambda infos: np.full(3, None, dtype=object))


def test_another_way_to_treat_missing_ones():
    with pytest.raises(OptionError, match='missing_final_obs: expected "raise", "drop" or "mark", got'):
        VectorBufferingWrapper(
            CustomVectorEnv(Scenario().env_fns()), autoreset_mode="same_step", missing_final_obs="ignore"
        )
