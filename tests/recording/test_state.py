"""Saving and restoring all that a recorder holds and counts."""

from __future__ import annotations

import copy
import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
from checks import assert_recorded, run
from custom_venv import CustomVecEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingEnvWrapper, BufferingWrapper, DictObs, RolloutInfoWrapper, TupleObs
from vecrollout.errors import EmptyBufferError, ProtocolError, StateError
from vecrollout.testing import SPACES, CountingEnv, EpisodeScript, Scenario, assert_same

SCENARIO = Scenario()
CALLS = 13


def recorder(scenario=SCENARIO, base=DummyVecEnv, **options):
    venv = BufferingWrapper(base(scenario.env_fns()), **options)
    venv.reset()
    return venv


def through_a_file(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        return dict(loaded)


def counts(venv):
    return {name: getattr(venv, name) for name in ("stepped", "held", "popped", "delivered", "dropped")}


@pytest.mark.parametrize("space", [name for name in SPACES if name != "text"])
def test_every_space_goes_through_a_file(space):
    scenario = Scenario(space=space, action_space="multi_discrete")
    saved, loaded = (recorder(scenario, CustomVecEnv) for _ in range(2))
    run(saved, scenario, 0, 9)
    run(loaded, scenario, 0, 9)
    loaded.pop_trajectories()
    loaded.load_state_dict(through_a_file(saved.state_dict()))
    assert counts(loaded) == counts(saved) == {"stepped": 27, "held": 27, "popped": 0, "delivered": 0, "dropped": 0}
    for venv in (saved, loaded):
        run(venv, scenario, 9, CALLS)
        assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_saving_changes_nothing_and_loading_can_be_repeated():
    venv = recorder()
    run(venv, SCENARIO, 0, 4)
    state = venv.state_dict()
    before = copy.deepcopy(state)
    run(venv, SCENARIO, 4, CALLS)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))
    assert_same(state, before)
    for _ in range(2):
        venv.load_state_dict(state)
        trajectories = venv.pop_trajectories()[0]
        assert_recorded(trajectories, SCENARIO.recorded(0, 4))
    assert_same(state, before)
    for array in state.values():
        array[...] = np.zeros((), array.dtype)
    assert_recorded(trajectories, SCENARIO.recorded(0, 4))


def test_ids_go_on_where_they_were():
    saved, loaded = recorder(), recorder()
    run(saved, SCENARIO, 0, 6)
    run(loaded, SCENARIO, 0, 6)
    loaded.load_state_dict(saved.state_dict())
    ids = []
    for venv in (saved, loaded):
        run(venv, SCENARIO, 6, CALLS)
        ids.append([each.episode for each in venv.pop_trajectories()[0]])
    assert ids[0] == ids[1]
    assert len({each.id for each in ids[0]}) == len(ids[0])


def test_a_state_before_the_first_reset():
    state = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns())).state_dict()
    venv = recorder()
    run(venv, SCENARIO, 0, CALLS)
    venv.load_state_dict(through_a_file(state))
    assert counts(venv) == {"stepped": 0, "held": 0, "popped": 0, "delivered": 0, "dropped": 0}
    with pytest.raises(EmptyBufferError):
        venv.pop_transitions()
    with pytest.raises(ProtocolError, match="reset"):
        venv.step(SCENARIO.actions(0))
    venv.reset()
    venv.step(SCENARIO.actions(0))
    assert [info["t"] for info in venv.pop_transitions().infos] == [1, 1, 1]


def test_a_state_without_infos():
    saved, loaded = (recorder(record_infos="none") for _ in range(2))
    for _ in range(2):
        run(saved, SCENARIO, 0, 3)
        loaded.load_state_dict(through_a_file(saved.state_dict()))
    assert counts(loaded)["held"] == 18
    mine, others = saved.pop_trajectories()[0], loaded.pop_trajectories()[0]
    assert mine == others
    assert all(each.infos is None for each in others)


def object_array(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def with_info(value: Any) -> Any:
    class Informed(CountingEnv):
        def step(self, action):
            *others, info = super().step(action)
            return *others, {**info, "value": value}

        def reset(self, *, seed=None, options=None):
            obs, info = super().reset(seed=seed, options=options)
            return obs, {**info, "value": value}

    return BufferingWrapper(CustomVecEnv([lambda: Informed("box", [EpisodeScript(3)])] * 2))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        2**70,
        0.1,
        float("inf"),
        "ünïcode \x00 \ud800".encode("utf-8", "replace").decode(),
        [1, [2, "x"], None],
        (1, (2.5, "x"), ()),
        {"a": {"b": np.arange(3)}, "tuple": (1,)},
        {1: "one", None: 2, (1, 2): 3},
        {},
        np.float32(1.5),
        np.int8(-3),
        np.bool_(True),
        np.array(["text", "more"]),
        np.zeros((2, 0, 3), np.float16),
        np.array("2020-01-01", "datetime64[D]"),
        np.array([{"a": 1}, None], dtype=object),
        np.array([[[1, 2]], [[3, "x"]]], dtype=object),
        object_array([(1, 2), [3, 4]]),
    ],
    ids=repr,
)
def test_infos_of_every_kind_come_back_as_they_were(value):
    venv = with_info(value)
    venv.reset()
    for _ in range(4):
        venv.step(np.zeros(2, np.int64))
    state = through_a_file(venv.state_dict())
    loaded = with_info(value)
    loaded.load_state_dict(state)
    for trajectory in loaded.pop_trajectories()[0]:
        assert_same(trajectory.episode.reset_info["value"], value)
        for info in trajectory.infos:
            assert_same(info["value"], value)


@pytest.mark.parametrize("nan", [float("nan"), np.float64("nan"), np.array([np.nan, -0.0])])
def test_nan_comes_back(nan):
    venv = with_info(nan)
    venv.reset()
    venv.step(np.zeros(2, np.int64))
    loaded = with_info(nan)
    loaded.load_state_dict(through_a_file(venv.state_dict()))
    assert_same(loaded.pop_transitions().infos[0]["value"], nan)


@pytest.mark.parametrize(("space", "kind"), [("box", np.ndarray), ("dict", DictObs), ("tuple", TupleObs)])
def test_records_of_rollout_info_wrapper(space, kind):
    scenario = Scenario(space=space)

    def make():
        return BufferingWrapper(DummyVecEnv([lambda e=e: RolloutInfoWrapper(e()) for e in scenario.env_fns()]))

    saved, loaded = make(), make()
    saved.reset()
    run(saved, scenario, 0, 5)
    loaded.load_state_dict(through_a_file(saved.state_dict()))
    mine, others = saved.pop_finished_trajectories()[0], loaded.pop_finished_trajectories()[0]
    assert len(others) == 5
    for left, right in zip(mine, others, strict=True):
        assert type(right.infos[-1]["rollout"]["obs"]) is kind
        assert_same(list(right.infos), list(left.infos))


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: None, [object()], {"a": (object(),)}])
def test_an_info_that_cannot_be_stored(value):
    """It says where; nothing is lost."""
    venv = with_info(value)
    venv.reset()
    venv.step(np.zeros(2, np.int64))
    with pytest.raises(StateError, match=r"info.*'value'.*record_infos"):
        venv.state_dict()
    assert len(venv.pop_transitions()) == 2


def test_states_that_do_not_fit():
    """The recorder stays as it is."""
    venv = recorder()
    run(venv, SCENARIO, 0, 5)
    good = recorder()
    run(good, SCENARIO, 0, 3)
    state = good.state_dict()

    def with_meta(**altered):
        return {**state, "meta": np.array(json.dumps({**meta, **altered}))}

    meta = json.loads(str(state["meta"]))
    bad = {
        "'meta', got none": {},
        "stepped to be held": with_meta(counters={**meta["counters"], "stepped": 99}),
        "'delivered'": with_meta(counters={"stepped": 9, "popped": 0}),
        "running episode": with_meta(running=meta["running"][::-1]),
        "each of 3 ": with_meta(running=meta["running"][:2]),
        "each of 3 environments": with_meta(waiting=[3]),
        "invalid literal": with_meta(next_id="first"),
        "num_envs 3": recorder(Scenario(episodes=[[EpisodeScript(2)]] * 2)).state_dict(),
        "keeps_infos": recorder(record_infos="none").state_dict(),
        "version": with_meta(version=99),
        "meta": {**state, "meta": np.array("no JSON")},
        "current/0": {key: value for key, value in state.items() if key != "current/0"},
        "acts/0": {key: value for key, value in state.items() if key != "acts/0"},
        "'rews'": {key: value for key, value in state.items() if key != "rews"},
        "'obs/0' with": {**state, "obs/0": state["obs/0"][:-1]},
        "'acts/0' with": {**state, "acts/0": state["acts/0"].astype(np.float64)},
        "current": {**state, "current/0": state["current/0"][:2]},
    }
    for message, each in bad.items():
        with pytest.raises(StateError, match=message):
            venv.load_state_dict(each)
        assert counts(venv) == {"stepped": 15, "held": 15, "popped": 0, "delivered": 0, "dropped": 0}
    run(venv, SCENARIO, 5, CALLS)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))


# Copies of the recorder itself, which deepcopy and pickle make of whatever it stands in


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copied_recorder_goes_on_by_itself(copied):
    """With its environment, from the middle of an episode; what either of them records later is its own."""
    env = BufferingEnvWrapper(CountingEnv(episodes=[EpisodeScript(3), EpisodeScript(5)]), sink=[], record_infos=["t"])

    def play(recorder, actions):
        for action in actions:
            _, _, terminated, truncated, _ = recorder.step(np.int64(action))
            if terminated or truncated:
                recorder.reset()

    env.reset()
    play(env, [1, 2, 1, 2])
    other = copied(env)
    play(other, [1, 0])
    play(env, [2, 2])
    for recorder, acts in ((env, [2, 2, 2]), (other, [2, 1, 0])):
        assert counts(recorder) == {"stepped": 6, "held": 3, "popped": 0, "delivered": 3, "dropped": 0}
        (trajectory,) = recorder.pop_trajectories()[0]
        assert trajectory.acts.tolist() == acts
        assert [info["t"] for info in trajectory.infos] == [1, 2, 3]
        assert (trajectory.episode.id, trajectory.rews.shape) == (1, (3,))
        assert len(np.unique(trajectory.obs[:, 0])) == 4


def test_copies_have_the_options():
    options = {"record_infos": "none", "max_transitions": 2, "on_full": "drop_oldest", "early_reset": "drop"}
    env = BufferingEnvWrapper(CountingEnv(episodes=[EpisodeScript(2)]), error_on_premature_reset=False, **options)
    other = copy.deepcopy(env)
    for steps in (2, 1, 1):
        other.reset()
        for _ in range(steps):
            other.step(np.int64(1))
    assert counts(other) == {"stepped": 4, "held": 1, "popped": 0, "delivered": 0, "dropped": 3}
    assert other.pop_trajectories()[0][0].infos is None
    assert env.stepped == 0
