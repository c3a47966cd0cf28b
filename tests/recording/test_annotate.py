"""Annotations: arrays that a caller adds to a step, in the infos of the step whose action they belong to."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from vector_envs import MODES, sync_env

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    TraceWriter,
    VectorBufferingWrapper,
    open_traces,
    record_traces,
)
from vecrollout.errors import ArgumentTypeError, OptionError, ProtocolError, ShapeError
from vecrollout.testing import CountingEnv, EpisodeScript

LENGTHS = ([3, 1, 4], [2], [5, 2])
CALLS = 13


def env_fns() -> list[Any]:
    """Three environments whose observations are all different."""
    return [
        lambda i=i, steps=steps: CountingEnv(
            episodes=[EpisodeScript(n) for n in steps], first=70 * i, stride=10, action_space="discrete"
        )
        for i, steps in enumerate(LENGTHS)
    ]


MAKERS: dict[str, Any] = {
    "sb3": lambda **options: BufferingWrapper(DummyVecEnv(env_fns()), **options),
    **{
        mode: lambda mode=mode, **options: VectorBufferingWrapper(sync_env(env_fns(), mode), **options)
        for mode in MODES
    },
    "single": lambda **options: BufferingEnvWrapper(env_fns()[0](), **options),
}


def act(recorder: Any, calls: int = CALLS, every: int = 1) -> None:
    """Annotate each step with the observations that its actions answer."""
    obs = recorder.restart()
    envs = len(obs)
    for call in range(calls):
        if call % every == 0:
            recorder.annotate(seen=obs, values=np.arange(envs) + call)
        obs = recorder.advance(np.zeros(envs, np.int64)).obs


def assert_lined_up(trajectories: Any, envs: int) -> None:
    assert {each.episode.env_index for each in trajectories} == {*range(envs)}
    for each in trajectories:
        assert len(each.infos) == len(each)
        for t, info in enumerate(each.infos):
            np.testing.assert_array_equal(info["seen"], each.obs[t])
            assert info["seen"].dtype == each.obs.dtype
            assert isinstance(info["values"], np.int64)


@pytest.mark.parametrize("infos", ["all", ["t"], []])
@pytest.mark.parametrize("kind", MAKERS)
def test_rows_belong_to_the_action_that_was_taken(kind, infos):
    """At the ends of episodes too; rows of steps that reset an environment are in no trajectory."""
    recorder = MAKERS[kind](record_infos=infos)
    act(recorder)
    trajectories, _ = recorder.pop_trajectories()
    envs = 1 if kind == "single" else 3
    assert_lined_up(trajectories, envs)
    for each in trajectories:
        for t, info in enumerate(each.infos):
            assert info.get("t", t + 1) == t + 1
            assert ("t" in info) == (infos != [])
    assert sum(map(len, trajectories)) == recorder.popped == recorder.stepped


@pytest.mark.parametrize("kind", MAKERS)
def test_transitions_and_sinks_have_them_too(kind):
    sink: list[Any] = []
    recorder = MAKERS[kind](sink=sink)
    act(recorder)
    transitions = recorder.pop_transitions()
    assert all((info["seen"] == obs).all() for info, obs in zip(transitions.infos, transitions.obs, strict=True))
    assert_lined_up(sink, 1 if kind == "single" else 3)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_of_some_steps_over_many_chunks(kind, every):
    recorder = MAKERS[kind](early_reset="drop")
    act(recorder, 1300, every)
    trajectories, _ = recorder.pop_trajectories()
    found = 0
    for each in trajectories:
        for t, info in enumerate(each.infos):
            assert ("seen" in info) == ("values" in info)
            if "seen" in info:
                found += 1
                np.testing.assert_array_equal(info["seen"], each.obs[t])
    assert found >= sum(map(len, trajectories)) // every - 3


def test_the_recorder_copies_them():
    recorder = MAKERS["sb3"]()
    recorder.reset()
    values = np.zeros((3, 2), np.float32)
    for step in range(2):
        values[:] = step
        recorder.annotate(values=values)
        values[:] = -1
        recorder.step(np.zeros(3, int))
    first = recorder.pop_trajectories()[0][0]
    assert [info["values"].tolist() for info in first.infos] == [[0, 0], [1, 1]]
    assert first.infos[0]["values"].dtype == np.float32


def test_tensors_become_arrays():
    recorder = MAKERS["sb3"]()
    recorder.reset()
    recorder.annotate(values=torch.arange(3.0, requires_grad=True) / 2, flags=torch.tensor([True, False, True]))
    recorder.step(np.zeros(3, int))
    infos = recorder.pop_transitions().infos
    assert sorted(float(info["values"]) for info in infos) == [0, 0.5, 1]
    assert {type(info["values"]) for info in infos} == {np.float32}
    assert {type(info["flags"]) for info in infos} == {np.bool_}


def test_a_step_has_its_own_only():
    """A second call adds or replaces; nothing is left for the step after, nor after a step that failed."""
    recorder = MAKERS["sb3"]()
    recorder.reset()
    recorder.annotate(a=[1, 2, 3], b=[4, 5, 6])
    recorder.step_async(np.zeros(3, int))
    recorder.annotate(b=[7.5, 8.5, 9.5], c=[True, False, True])
    recorder.step_wait()
    recorder.step(np.zeros(3, int))
    infos = {each.episode.env_index: each.infos for each in recorder.pop_trajectories()[0]}
    assert {key: infos[0][0][key] for key in "abc"} == {"a": 1, "b": 7.5, "c": True}
    assert not {"a", "b", "c"} & infos[0][1].keys()
    recorder.annotate(a=[1, 2, 3])
    recorder.venv.envs[1].unwrapped.fail_next = True
    with pytest.raises(Exception, match=r".*"):
        recorder.step(np.zeros(3, int))
    with pytest.raises(ProtocolError, match="reset"):
        recorder.annotate(a=[1, 2, 3])
    recorder.reset()
    recorder.step(np.zeros(3, int))
    assert all("a" not in info for each in recorder.pop_trajectories()[0] for info in each.infos)


def test_a_reset_of_all_drops_what_no_step_took():
    recorder = MAKERS["sb3"]()
    recorder.reset()
    recorder.annotate(a=[1, 2, 3])
    recorder.reset()
    recorder.step(np.zeros(3, int))
    assert all("a" not in info for each in recorder.pop_trajectories()[0] for info in each.infos)


@pytest.mark.parametrize("kind", MAKERS)
def test_state_dicts_have_them(kind):
    recorder, other = MAKERS[kind](), MAKERS[kind]()
    act(recorder)
    other.load_state_dict(recorder.state_dict())
    assert_lined_up(other.pop_trajectories()[0], 1 if kind == "single" else 3)


@pytest.mark.parametrize("kind", MAKERS)
def test_they_are_columns_on_disk(kind, tmp_path):
    with TraceWriter(tmp_path) as writer:
        recorder = MAKERS[kind](sink=writer)
        act(recorder)
        recorder.close()
    assert_lined_up(open_traces(tmp_path), 1 if kind == "single" else 3)
    (shard,) = tmp_path.glob("*.arrow")
    with pa.OSFile(str(shard)) as file:
        table = pa.ipc.open_file(file).read_all()
    assert {"info.seen", "info.values"} <= {*table.column_names}
    assert table.schema.field("info.values").type == pa.int64()
    assert table["info.values"].null_count == len(open_traces(tmp_path))  # one row an episode is its last observation


def test_record_traces_takes_them(tmp_path):
    recorder = record_traces(DummyVecEnv(env_fns()), tmp_path)
    act(recorder)
    recorder.close()
    assert_lined_up(open_traces(tmp_path), 3)


class Some(gym.vector.VectorEnv):
    """An asynchronous engine that brings the environments that were sent to first, two at a time."""

    metadata = {"autoreset_mode": "next_step"}  # noqa: RUF012

    def __init__(self) -> None:
        self.envs = [make() for make in [*env_fns(), env_fns()[0]]]
        self.num_envs = 4
        self.single_observation_space = self.observation_space = self.envs[0].observation_space
        self.single_action_space = self.action_space = self.envs[0].action_space
        self.over = [True] * 4
        self.sent: list[int] = []

    def async_reset(self) -> None:
        self.sent = [*range(4)]

    def send(self, actions: Any, env_id: Any) -> None:
        self.sent += np.asarray(env_id).tolist()

    def recv(self) -> Any:
        envs, self.sent = self.sent[:2], self.sent[2:]
        rows: list[Any] = []
        for env in envs:
            if self.over[env]:
                rows.append((self.envs[env].reset()[0], 0.0, False, False))
            else:
                rows.append(self.envs[env].step(0)[:4])
            self.over[env] = rows[-1][2] or rows[-1][3]
        obs, rews, terminated, truncated = map(np.array, zip(*rows, strict=True))
        return obs, rews.astype(float), terminated, truncated, {"env_id": np.array(envs)}


def test_of_some_environments_at_a_time():
    recorder = VectorBufferingWrapper(Some())
    recorder.async_reset()
    for call in range(40):
        obs, *_, info = recorder.recv()
        if call % 5 != 4:
            recorder.annotate(info["env_id"], seen=obs, values=info["env_id"])
        recorder.send(np.zeros(2, np.int64), info["env_id"])
    trajectories, _ = recorder.pop_trajectories()
    found = 0
    for each in trajectories:
        for t, info in enumerate(each.infos):
            if "seen" in info:
                found += 1
                np.testing.assert_array_equal(info["seen"], each.obs[t])
                assert info["values"] == each.episode.env_index
    assert 0.6 * sum(map(len, trajectories)) < found < sum(map(len, trajectories))


def test_rows_that_wait_keep_their_kind():
    recorder = VectorBufferingWrapper(Some())
    recorder.async_reset()
    recorder.recv()
    recorder.annotate(np.array([0]), values=[1.0])
    for array in ([2], [[2.0]]):
        with pytest.raises(ShapeError, match=r"values: expected rows of shape \(\) and dtype float64.* got"):
            recorder.annotate(np.array([1]), values=array)
    with pytest.raises(ShapeError, match="expected 2 rows"):
        recorder.annotate(np.array([0, 1]), values=[1.0])


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"values": [1.0, 2.0]}, ShapeError, r"values: expected 3 rows, .* got shape \(2,\)"),
        ({"values": 1.0}, ShapeError, r"values: expected 3 rows, .* got shape \(\)"),
        ({"hidden": np.zeros((1, 3, 8))}, ShapeError, r"got shape \(1, 3, 8\).*np\.moveaxis\(state, 1, 0\)"),
        ({"hidden": (np.zeros(3),) * 3}, ArgumentTypeError, "hidden: expected one array, got a tuple; .* hidden_0="),
        ({"hidden": {"h": np.zeros(3)}}, ArgumentTypeError, "hidden: expected one array, got a dict"),
        ({"_values": np.zeros(3)}, OptionError, "do not begin with an underscore, got '_values'"),
    ],
)
def test_arrays_that_cannot_be_recorded(arrays, error, message):
    """None of the arrays of a refused call is kept."""
    recorder = MAKERS["sb3"]()
    recorder.reset()
    with pytest.raises(error, match=f"annotate: .*{message}"):
        recorder.annotate(good=np.zeros(3), **arrays)
    recorder.step(np.zeros(3, int))
    assert all("good" not in info for each in recorder.pop_trajectories()[0] for info in each.infos)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_recorder_without_infos_or_without_a_reset_takes_none(kind):
    with pytest.raises(ProtocolError, match="reset"):
        MAKERS[kind]().annotate(values=np.zeros(3))
    recorder = MAKERS[kind](record_infos="none")
    recorder.restart()
    with pytest.raises(OptionError, match=r'annotate: .* got record_infos="none"; pass record_infos=\[\]'):
        recorder.annotate(values=np.zeros(1 if kind == "single" else 3))


@pytest.mark.parametrize("kind", MAKERS)
def test_an_info_of_the_same_name_makes_way_with_one_warning(kind):
    recorder = MAKERS[kind]()
    envs = len(recorder.restart())
    recorder.annotate(t=np.full(envs, -1))
    with pytest.warns(UserWarning, match="annotate: the environments' infos have the key 't' too"):
        recorder.advance(np.zeros(envs, int))
    recorder.annotate(t=np.full(envs, -2))
    recorder.advance(np.zeros(envs, int))
    assert [info["t"] for info in recorder.pop_trajectories()[0][0].infos] == [-1, -2]
