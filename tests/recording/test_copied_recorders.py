"""Deep copies and pickles of recorders, buffers and writers. Tree search copies environments at every node."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor
from vector_envs import MODES, async_env, sync_env

from vecrollout import (
    BufferingEnvWrapper,
    BufferingWrapper,
    CopyingWrapper,
    RecordOptions,
    RolloutInfoWrapper,
    TraceCallback,
    TraceRecordingWrapper,
    TraceWriter,
    TrajectoryWithRew,
    VectorBufferingWrapper,
    errors,
    make_min_episodes,
    make_min_timesteps,
    open_traces,
    record_traces,
    repair_traces,
    verify_traces,
)
from vecrollout.buffer import RolloutBuffer
from vecrollout.errors import ProtocolError
from vecrollout.interop.gym_recording import GymRecordingWriter
from vecrollout.testing import CountingEnv, EpisodeScript, assert_same


class Env(CountingEnv):
    """Of this module, so that it can be pickled."""

    def __init__(self) -> None:
        super().__init__(episodes=[EpisodeScript(3), EpisodeScript(5)])


FNS = [Env, Env]
BARE: dict[str, Any] = {
    "sb3": lambda: DummyVecEnv(FNS),
    **{mode: lambda mode=mode: sync_env(FNS, mode) for mode in MODES},
    "single": Env,
}
MAKERS: dict[str, Any] = {
    "sb3": BufferingWrapper,
    **dict.fromkeys(MODES, VectorBufferingWrapper),
    "single": BufferingEnvWrapper,
}
COPIES: dict[str, Any] = {"deepcopy": copy.deepcopy, "pickle": lambda each: pickle.loads(pickle.dumps(each))}


def recorder(kind: str, **options: Any) -> Any:
    return MAKERS[kind](BARE[kind](), error_on_premature_reset=False, **options)


def drive(each: Any, calls: int) -> None:
    for _ in range(calls):
        each.advance(np.zeros(1 if isinstance(each, BufferingEnvWrapper) else 2, np.int64))


def counters(each: Any) -> list[int]:
    return [each.stepped, each.held, each.popped, each.delivered, each.dropped]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_copy_goes_on_by_itself(kind, how):
    """In the middle of episodes, with what was recorded; neither disturbs the other."""
    original = recorder(kind)
    original.restart()
    drive(original, 7)
    copied = COPIES[how](original)
    assert type(copied) is type(original)
    assert counters(copied) == counters(original)
    drive(copied, 6)
    assert original.stepped < copied.stepped
    drive(original, 6)
    for found, expected in zip(copied.pop_trajectories(), original.pop_trajectories(), strict=True):
        assert_same(found, expected)
    assert repr(copied) == repr(original)
    copied.close()
    original.restart()
    drive(original, 2)


@pytest.mark.parametrize("kind", MAKERS)
def test_copies_of_copies_before_and_after_everything(kind):
    original = copy.deepcopy(copy.deepcopy(recorder(kind)))
    original.restart()
    drive(original, 4)
    original.close()
    closed = copy.deepcopy(original)
    assert counters(closed) == counters(original)
    assert_same(closed.pop_trajectories()[0], original.pop_trajectories()[0])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_list_as_sink_is_copied(kind):
    taken: list[Any] = []
    original = recorder(kind, sink=taken)
    original.restart()
    drive(original, 4)
    before = len(taken)
    copied = copy.deepcopy(original)
    drive(copied, 9)
    assert len(taken) == before
    assert copied.delivered > original.delivered


@pytest.mark.parametrize("kind", MAKERS)
def test_a_copy_of_a_recorder_that_writes_writes_nothing(kind, tmp_path):
    bare = BARE[kind]()
    with TraceWriter(tmp_path / "sink") as writer:
        for original in (record_traces(bare, tmp_path / "own"), recorder(kind, sink=writer)):
            original.restart()
            drive(original, 4)
            for copied in (copy.deepcopy(original), copy.deepcopy(copy.deepcopy(original))):
                drive(copied, 9)
                assert copied.stepped == copied.held + copied.delivered
                assert "directory" not in vars(copied)
                copied.close()
            drive(original, 4)
            original.close()
    for directory in ("own", "sink"):
        traces = open_traces(tmp_path / directory)
        assert {each.episode.recording for each in traces} == {traces[0].episode.recording}
        steps = sum(len(each) for each in traces)
        assert steps == original.stepped
        assert len({each.episode.id for each in traces}) == len(traces)


@pytest.mark.parametrize("how", [copy.copy, *COPIES.values()])
def test_writers_are_not_copied(tmp_path, how):
    for kind in (TraceWriter, GymRecordingWriter):
        with (
            kind(tmp_path / kind.__name__) as writer,
            pytest.raises(ProtocolError, match=f"{kind.__name__}: expected one owner.*; open another one"),
        ):
            how(writer)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_recorder_that_writes_is_not_pickled(kind, tmp_path):
    original = record_traces(BARE[kind](), tmp_path)
    with pytest.raises(ProtocolError, match=r"TraceWriter: expected one owner.*; open another one"):
        pickle.dumps(original)
    original.close()


@pytest.mark.parametrize("how", COPIES.values())
@pytest.mark.parametrize("kind", [SubprocVecEnv, async_env])
def test_environments_in_processes_are_not_copied(kind, how):
    """And the attempt does them no harm."""
    bare = kind(FNS)
    original = BufferingWrapper(bare) if kind is SubprocVecEnv else VectorBufferingWrapper(bare)
    try:
        original.restart()
        with pytest.raises(ProtocolError, match=rf"{type(bare).__name__}.* other processes; .*state_dict\(\)"):
            how(original)
        drive(original, 5)
        assert original.stepped >= 8
    finally:
        original.close()


def test_environments_that_cannot_be_copied():
    """SB3's own wrappers, but for `VecNormalize`, cannot."""
    original = BufferingWrapper(VecMonitor(DummyVecEnv(FNS)))
    original.reset()
    with pytest.raises(ProtocolError, match=r"BufferingWrapper: expected .* that can be copied: .*state_dict"):
        copy.deepcopy(original)


def test_infos_that_cannot_be_copied_without_pickle():
    original = recorder("sb3")
    original.reset()
    original.venv.envs[0].step = lambda action, step=original.venv.envs[0].step: (*step(action)[:4], {"o": object()})
    original.step(np.zeros(2, int))
    with pytest.raises(errors.StateError, match="record_infos="):
        copy.deepcopy(original)


def test_a_copy_of_environments_that_train_writes_nothing(tmp_path):
    class CopiesOnce(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 5:
                copied = copy.deepcopy(self.training_env.unwrapped)
                for _ in range(9):
                    copied.step(np.zeros(2, np.int64))
            return True

    PPO("MlpPolicy", DummyVecEnv(FNS), n_steps=16, batch_size=16, device="cpu").learn(
        32, [TraceCallback(tmp_path), CopiesOnce()]
    )
    assert sum(map(len, open_traces(tmp_path))) == 32


@pytest.mark.parametrize("how", COPIES.values())
def test_other_public_objects(how, tmp_path):
    for wrapper in (CopyingWrapper, RolloutInfoWrapper):
        copied = how(wrapper(Env()))
        copied.reset()
        assert copied.step(0)[1] == 1.5
    assert how(TraceCallback(tmp_path)).directory == tmp_path
    for condition in (make_min_episodes(3), make_min_timesteps(5)):
        assert how(condition)([]) is False
    assert how(RecordOptions(cast="space")) == RecordOptions(cast="space")
    with TraceWriter(tmp_path) as writer:
        writer.append(TrajectoryWithRew(np.zeros((6, 2)), np.arange(5), None, True, rews=np.ones(5)))
    traces = open_traces(tmp_path)
    for each in (traces[0].episode, traces.normalization(), verify_traces(tmp_path), repair_traces(tmp_path)):
        assert repr(how(each)) == repr(each)
    for items in (traces.steps(), traces.windows(2), traces.n_step(2, gamma=0.5)):
        assert_same(vars(how(items)[[3]]), vars(items[[3]]))
    for name in vars(errors):
        if name.endswith("Error"):
            assert str(how(getattr(errors, name)("said"))) == "said"


@pytest.mark.parametrize("how", COPIES.values())
def test_buffers(how):
    buffer = RolloutBuffer(2)
    buffer.reset(np.zeros((2, 3)))
    buffer.act(np.zeros(2, int))
    buffer.step(np.ones((2, 3)), np.zeros(2), [{}, {}])
    copied = how(buffer)
    assert_same(copied.pop_transitions(), buffer.pop_transitions())
    assert (copied.stepped, copied.held, copied.popped) == (2, 0, 2)


def test_a_trace_recording_wrapper_is_copied_with_its_environment(tmp_path):
    env = TraceRecordingWrapper(Env(), tmp_path, frame_filter=lambda step: step % 2 == 0)
    env.reset()
    for _ in range(2):
        env.step(0)
    simulated = copy.deepcopy(env)
    obs = [simulated.step(0)[0], env.step(0)[0]]
    np.testing.assert_array_equal(*obs)
    simulated.flush()
    simulated.close()
    env.close()
    assert [len(each) for each in open_traces(tmp_path)] == [1, 1]
    assert isinstance(simulated.unwrapped, gym.Env)
