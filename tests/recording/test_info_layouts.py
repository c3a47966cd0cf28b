"""Infos of vector environments in other layouts than Gymnasium's dict of arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from custom_vector_env import CustomVectorEnv

from vecrollout import VectorBufferingWrapper
from vecrollout.errors import StructureError
from vecrollout.testing import Scenario, assert_same

CALLS = 13
SCENARIO = Scenario()


def recorded(alter, rule="same_step", scenario=SCENARIO, **options):
    recorder = VectorBufferingWrapper(CustomVectorEnv(scenario.env_fns(), rule, alter), autoreset_mode=rule, **options)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(scenario.actions(call))
    return recorder


def listed(kind, key):
    """A dict an environment; the last observations are in the dicts of those whose episodes ended."""

    def alter(step):
        last = step[-1]["last"]
        infos = [{"number": i, "_number": "own"} for i in range(len(last))]
        for info, final in zip(infos, last, strict=True):
            if final is not None:
                info[key] = final
        return (*step[:4], kind(infos))

    return alter


@pytest.mark.parametrize("key", ["final_obs", "final_observation", "terminal_observation"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_dict_an_environment(kind, key):
    trajectories = recorded(listed(kind, key)).pop_trajectories()[0]
    for trajectory, expected in zip(trajectories, SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs)
        assert trajectory.episode.ended_by == expected.ended_by
        for info in trajectory.infos:
            assert (info["number"], info["_number"]) == (expected.env_index, "own")


def test_a_dict_an_environment_without_autoreset_in_the_step():
    scenario = Scenario(has_dead_calls=True)

    def alter(step):
        return (*step[:4], [{"number": i} for i in range(len(step[1]))])

    trajectories = recorded(alter, "next_step", scenario).pop_trajectories()[0]
    for trajectory, expected in zip(trajectories, scenario.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs)
        assert [info["number"] for info in trajectory.infos] == [expected.env_index] * len(expected)
        if expected.episode:
            assert trajectory.episode.reset_info == {"number": expected.env_index}


def test_some_environments_without_a_dict():
    def alter(step):
        return (*step[:4], [None, {"x": 1}, {}])

    recorder = recorded(alter, "next_step", Scenario(has_dead_calls=True))
    for trajectory in recorder.pop_trajectories()[0]:
        expected = {"x": 1} if trajectory.episode.env_index == 1 else {}
        assert all(info == expected for info in trajectory.infos)


def test_no_infos():
    recorder = recorded(lambda step: (*step[:4], None), "next_step", Scenario(has_dead_calls=True))
    assert all(info == {} for each in recorder.pop_trajectories()[0] for info in each.infos)


def test_chosen_keys():
    recorder = recorded(listed(list, "final_obs"), record_infos=["number"])
    assert all(list(info) == ["number"] for each in recorder.pop_trajectories()[0] for info in each.infos)
    recorder = recorded(listed(list, "final_obs"), record_infos="none")
    assert all(each.infos is None for each in recorder.pop_trajectories()[0])


def test_final_infos_as_a_tuple_of_dicts():
    """Beside a dict of arrays."""

    def alter(step):
        last = step[-1]["last"]
        over = [each is not None for each in last]
        finals = tuple({"end": i} if is_over else None for i, is_over in enumerate(over))
        infos = {"number": np.arange(3), "final_obs": tuple(last), "_final_obs": over, "final_info": finals}
        return (*step[:4], infos)

    for trajectory, expected in zip(recorded(alter).pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs)
        infos = [{"number": expected.env_index}] * len(expected)
        if expected.terminal:
            infos[-1] = {"end": expected.env_index}
        assert list(trajectory.infos) == infos


MASKS = {
    "bools": np.array([True, False, True]),
    "numbers": np.array([1, 0, 1], np.uint8),
    "list": [True, False, True],
    "tuple": (True, False, True),
    "torch": torch.tensor([True, False, True]),
    "torch numbers": torch.tensor([1, 0, 1]),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "values", [np.array([5, 6, 7]), torch.tensor([5, 6, 7]), [5, 6, 7]], ids=["numpy", "torch", "list"]
)
def test_masks_of_any_kind(mask, values):
    def alter(step):
        return (*step[:4], {"x": values, "_x": MASKS[mask], "deep": {"x": values, "_x": MASKS[mask]}})

    recorder = recorded(alter, "next_step", Scenario(has_dead_calls=True))
    for trajectory in recorder.pop_trajectories()[0]:
        env = trajectory.episode.env_index
        own = {} if env == 1 else {"x": 5 + env}
        assert all(info == {**own, "deep": own} for info in trajectory.infos)


def test_a_key_that_looks_like_a_mask():
    """A text is none."""

    def alter(step):
        return (*step[:4], {"x": np.arange(3), "_x": "seconds"})

    recorder = recorded(alter, "next_step", Scenario(has_dead_calls=True))
    for trajectory in recorder.pop_trajectories()[0]:
        assert all(info == {"x": trajectory.episode.env_index, "_x": "seconds"} for info in trajectory.infos)


@pytest.mark.parametrize("infos", [[{}], ["a", "b", "c"], 5, "abc"])
def test_what_is_no_infos(infos):
    strange = False

    def alter(step):
        return (*step[:4], infos if strange else {})

    env = CustomVectorEnv(Scenario(has_dead_calls=True).env_fns(), "next_step", alter)
    recorder = VectorBufferingWrapper(env, autoreset_mode="next_step")
    recorder.reset()
    recorder.step(SCENARIO.actions(0))
    strange = True
    with pytest.raises(StructureError, match="infos: expected a dict of arrays, or 3 dicts"):
        recorder.step(SCENARIO.actions(1))
    assert len(recorder.pop_transitions()) == 3
