"""The data's own dtypes, shapes and structures are kept; what does not fit them is refused."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_recorded, run
from custom_venv import CustomVecEnv
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from vecrollout import BufferingEnvWrapper, BufferingWrapper
from vecrollout.buffer import RolloutBuffer
from vecrollout.errors import DtypeError, MissingTerminalObservationError, ProtocolError, ShapeError, StructureError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same, batch_of

SCENARIO = Scenario()
CALLS = 13


def altered(alter, scenario=SCENARIO, **options):
    venv = BufferingWrapper(CustomVecEnv(scenario.env_fns(), alter=alter), **options)
    venv.reset()
    return venv


# Kept as they are


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.complex64, np.int8, ">f4", "datetime64[s]"])
def test_observations_of_another_dtype_than_the_space(dtype):
    class OtherDtype(CustomVecEnv):
        def own(self, arrays):
            return [arrays[0].astype(np.int64).astype(dtype), *arrays[1:]]

    venv = BufferingWrapper(OtherDtype(SCENARIO.env_fns()))
    venv.reset()
    run(venv, SCENARIO, 0, CALLS)
    for trajectory, expected in zip(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.obs, expected.obs.astype(np.int64).astype(dtype))
    run(venv, SCENARIO, CALLS, CALLS + 1)
    assert venv.pop_transitions().obs.dtype == np.dtype(dtype)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3), (1, 1, 1)])
def test_observations_with_few_or_no_entries(shape):
    space = spaces.Box(-np.inf, np.inf, shape, np.float32)
    venv = BufferingWrapper(DummyVecEnv([lambda: CountingEnv(space, [EpisodeScript(3)])] * 2))
    venv.reset()
    for _ in range(5):
        venv.step(np.zeros(2, np.int64))
    trajectories = venv.pop_trajectories()[0]
    assert [each.obs.shape for each in trajectories] == [(4, *shape)] * 2 + [(3, *shape)] * 2
    for _ in range(5):
        venv.step(np.zeros(2, np.int64))
    transitions = venv.pop_transitions()
    assert transitions.obs.shape == transitions.next_obs.shape == (10, *shape)


def test_observations_without_arrays():
    class Blind(CountingEnv):
        observation_space = spaces.Dict({})

        def __init__(self):
            super().__init__(episodes=[EpisodeScript(3)])
            self.observation_space = spaces.Dict({})

        def reset(self, **kwargs):
            return {}, super().reset(**kwargs)[1]

        def step(self, action):
            return {}, *super().step(action)[1:]

    env = BufferingEnvWrapper(Blind())
    for _ in range(2):
        env.reset()
        for _ in range(3):
            env.step(0)
    for each in env.pop_trajectories()[0]:
        assert (dict(each.obs), len(each), each.terminated) == ({}, 3, True)


@pytest.mark.parametrize("order", ["F", "sliced", "reversed", "transposed"])
def test_arrays_that_are_not_contiguous(order):
    scenario = Scenario(space="image", action_space="box")
    layouts = {
        "F": np.asfortranarray,
        "sliced": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
        "transposed": lambda array: array.T.copy().T,
    }
    lay = layouts[order]
    venv = altered(lambda step: (lay(step[0]), *step[1:]), scenario)
    for call in range(CALLS):
        venv.step(lay(scenario.actions(call)))
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, CALLS))


def test_actions_as_lists():
    scenario = Scenario(action_space="multi_discrete")
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
    venv.reset()
    for call in range(CALLS):
        venv.step(scenario.actions(call).tolist())
    assert_recorded(venv.pop_trajectories()[0], scenario.recorded(0, CALLS))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64, object, list])
def test_dones_of_another_kind(dtype):
    """No episode's end is overlooked."""
    kind = (lambda dones: dones.tolist()) if dtype is list else (lambda dones: dones.astype(dtype))
    venv = altered(lambda step: (step[0], step[1], kind(step[2]), step[3]))
    run(venv, SCENARIO, 0, CALLS)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (lambda rews: rews.tolist(), np.float64),
        (lambda rews: rews.astype(np.float16), np.float16),
        (lambda rews: rews.astype(np.int64), np.float64),
        (lambda rews: rews > 7, np.float64),
    ],
    ids=["list", "float16", "int64", "bool"],
)
def test_rewards_of_another_kind(kind, dtype):
    """Floats keep their dtype; what is no float becomes one."""
    venv = altered(lambda step: (step[0], kind(step[1]), *step[2:]))
    run(venv, SCENARIO, 0, CALLS)
    for trajectory, expected in zip(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS), strict=True):
        assert_same(trajectory.rews, np.asarray(kind(expected.rews)).astype(dtype))


def test_last_observation_of_another_dtype():
    """A vector environment casts observations that it copies into its array, and hands out the last one as it is."""

    def alter(step):
        for info in step[3]:
            if "terminal_observation" in info:
                info["terminal_observation"] = info["terminal_observation"].astype(np.float64).tolist()
        return tuple(step)

    venv = altered(alter)
    run(venv, SCENARIO, 0, CALLS)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))


# Refused


def rows_of(trajectory, width):
    """The observations of a counting environment, from what else is known of them."""
    first = 50 * trajectory.episode.env_index + 4 * trajectory.episode.reset_info["episode"]
    numbers = first + trajectory.episode.start_step + np.arange(len(trajectory) + 1)
    return np.repeat(numbers[:, None], width, axis=1)


def misfits(obs):
    return {
        "dtype": (DtypeError, obs.astype(np.int64).astype("M8[s]"), "obs: expected dtype float32"),
        "shape": (ShapeError, obs[..., :2], r"obs: expected shape \(3, 3\)"),
        "rows": (ShapeError, obs[:2], r"obs: expected shape \(3, 3\)"),
        "structure": (StructureError, {"obs": obs}, "obs: expected an array, got a dict"),
    }


@pytest.mark.parametrize("misfit", ["dtype", "shape", "rows", "structure"])
def test_an_observation_that_does_not_fit(misfit):
    """The step is not recorded, what was recorded before can be popped, and then data of the new kind is taken."""
    strange = False
    venv = altered(lambda step: (misfits(step[0])[misfit][1] if strange else step[0], *step[1:]))
    run(venv, SCENARIO, 0, 4)
    strange = True
    error, _, message = misfits(np.zeros((3, 3), np.float32))[misfit]
    with pytest.raises(error, match=message):
        venv.step(SCENARIO.actions(4))
    with pytest.raises(ProtocolError, match="reset"):
        venv.step(SCENARIO.actions(5))
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 4))
    strange = False
    venv.reset()
    run(venv, SCENARIO, 0, 3)
    assert (venv.held, venv.stepped) == (9, 21)


@pytest.mark.parametrize("misfit", ["dtype", "shape", "structure"])
def test_a_first_observation_that_does_not_fit(misfit):
    """While data is held; afterwards the new kind is taken."""

    class Strange(CustomVecEnv):
        is_strange = False

        def reset(self):
            obs = super().reset()
            return misfits(obs)[misfit][1] if self.is_strange else obs

        def step_wait(self):
            obs, *rest = super().step_wait()
            if self.is_strange:
                obs = misfits(obs)[misfit][1]
                for info in rest[-1]:
                    if "terminal_observation" in info:
                        last = misfits(info["terminal_observation"][None])[misfit][1]
                        info["terminal_observation"] = {"obs": last["obs"][0]} if isinstance(last, dict) else last[0]
            return obs, *rest

    base = Strange(SCENARIO.env_fns())
    venv = BufferingWrapper(base, error_on_premature_reset=False)
    venv.reset()
    run(venv, SCENARIO, 0, 4)
    base.is_strange = True
    with pytest.raises(misfits(np.zeros((3, 3), np.float32))[misfit][0]):
        venv.reset()
    with pytest.raises(ProtocolError, match="reset"):
        venv.step(SCENARIO.actions(4))
    assert_recorded(venv.pop_trajectories()[0], Scenario(resets=(4,)).recorded(0, 4))
    venv.reset()
    run(venv, SCENARIO, 0, 3)
    assert venv.held == 9
    for trajectory in venv.pop_trajectories()[0]:
        assert_same(trajectory.obs, misfits(rows_of(trajectory, 3).astype(np.float32))[misfit][1])


@pytest.mark.parametrize(
    ("misfit", "error", "message"),
    [
        (
            lambda acts: acts + 0.5,
            DtypeError,
            'acts: expected dtype int64 as recorded before, got float64.*cast="space"',
        ),
        (lambda acts: acts[:2], ShapeError, r"acts: expected shape \(3,\) as recorded before, got \(2,\)"),
        (lambda acts: acts[:, None], ShapeError, r"acts: expected shape \(3,\) as recorded before, got \(3, 1\)"),
        (lambda acts: {"left": acts}, StructureError, "acts: expected an array, got a dict"),
    ],
    ids=["dtype", "rows", "shape", "structure"],
)
def test_actions_that_do_not_fit(misfit, error, message):
    """They are refused before the environments are stepped; others can follow."""
    venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()))
    venv.reset()
    run(venv, SCENARIO, 0, 4)
    with pytest.raises(error, match=message):
        venv.step(misfit(SCENARIO.actions(4)))
    assert_recorded(venv.pop_finished_trajectories()[0], [e for e in SCENARIO.recorded(0, 4) if e.terminal])
    run(venv, SCENARIO, 4, CALLS)
    gone = [e for e in SCENARIO.recorded(0, 4) if e.terminal]
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS)[len(gone) :])


@pytest.mark.parametrize("acts", [np.zeros(2), np.zeros((4, 1)), np.zeros(())], ids=["few", "many", "one"])
def test_first_actions_must_have_a_row_an_environment(acts):
    venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()))
    venv.reset()
    with pytest.raises(ShapeError, match="acts: expected 3 rows, one an environment"):
        venv.step(acts)
    run(venv, SCENARIO, 0, CALLS)
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, CALLS))


def test_actions_of_another_kind_once_nothing_is_held():
    venv = BufferingWrapper(DummyVecEnv(SCENARIO.env_fns()))
    venv.reset()
    for call, dtype in enumerate([np.int64, np.float32, np.int64, np.int8] * 3):
        venv.step(SCENARIO.actions(call).astype(dtype))
        trajectories = venv.pop_trajectories()[0]
        for trajectory, expected in zip(trajectories, SCENARIO.recorded(call, call + 1), strict=True):
            assert_same(trajectory.acts, expected.acts.astype(dtype))
            assert_same(trajectory.obs, expected.obs)


@pytest.mark.parametrize("acts", [np.array([3.0, 4.0]), np.array([[3], [4]]), np.arange(4)])
def test_actions_that_do_not_fit_others_that_wait(acts):
    """Some environments' actions are refused; those given to others before, which no step has answered yet, stay."""
    buffer = RolloutBuffer(4)
    buffer.reset(np.zeros((4, 2), np.float32))
    first, second = np.array([0, 1]), np.array([2, 3])
    buffer.act(np.array([1, 2]), first)
    with pytest.raises((DtypeError, ShapeError), match="acts: expected"):
        buffer.act(acts, second)
    buffer.step(np.ones((2, 2), np.float32), np.ones(2), [{}, {}], envs=first)
    assert buffer.pop_transitions().acts.tolist() == [1, 2]


@pytest.mark.parametrize("rews", [np.zeros((3, 1)), np.zeros(2), np.zeros(())])
@pytest.mark.parametrize("before", [0, 4])
def test_rewards_must_be_one_an_environment(rews, before):
    strange = False
    venv = altered(lambda step: (step[0], rews if strange else step[1], *step[2:]))
    run(venv, SCENARIO, 0, before)
    strange = True
    with pytest.raises(ShapeError, match="rews: expected shape"):
        venv.step(SCENARIO.actions(before))
    assert venv.held == 3 * before


def test_too_few_infos():
    venv = altered(lambda step: (*step[:3], step[3][:2]))
    with pytest.raises(ShapeError, match="infos: expected 3 dicts"):
        venv.step(SCENARIO.actions(0))
    assert venv.stepped == 0


def test_a_missing_last_observation_says_where_and_what_to_do():
    """An episode without it cannot be recorded; the ones before can be popped."""

    def alter(step):
        if step[3][0]["t"] == 2:  # at the second step of the second episode
            step[3][0].pop("terminal_observation", None)
        return tuple(step)

    venv = altered(alter)
    run(venv, SCENARIO, 0, 4)
    with pytest.raises(MissingTerminalObservationError, match=r"environment 0, step 1 .*terminal_observation.*wrapper"):
        venv.step(SCENARIO.actions(4))
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 4))
    venv.reset()
    run(venv, SCENARIO, 0, 1)
    assert venv.held == 3


@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (np.zeros(2, np.float32), ShapeError, "last observation of environment 1"),
        ({"obs": np.zeros(3, np.float32)}, StructureError, "last observation of environment 1"),
    ],
)
def test_a_last_observation_that_does_not_fit(last, error, message):
    def alter(step):
        if step[3][1]["t"] == 4:
            step[3][1]["terminal_observation"] = last
        return tuple(step)

    venv = altered(alter)
    run(venv, SCENARIO, 0, 4)
    with pytest.raises(error, match=message):
        venv.step(SCENARIO.actions(4))
    assert_recorded(venv.pop_trajectories()[0], SCENARIO.recorded(0, 4))


def test_absent_time_limit_key_means_not_truncated():
    def alter(step):
        for info in step[3]:
            del info["TimeLimit.truncated"]
        return tuple(step)

    venv = altered(alter)
    with pytest.warns(UserWarning, match=r"TimeLimit\.truncated.*counts as terminated") as warned:
        run(venv, SCENARIO, 0, CALLS)
    assert len(warned) == 1
    assert warned[0].filename.endswith("checks.py")  # the caller's line
    ends = [(each.terminated, each.truncated) for each in venv.pop_finished_trajectories()[0]]
    assert ends == [(True, False)] * len(ends)


def test_batch_of_is_what_the_environments_give():
    """The expected values of these tests are made by it."""
    venv = DummyVecEnv(SCENARIO.env_fns())
    assert_same(venv.reset(), batch_of(venv.observation_space, [0, 50, 100]))


class TestRewardsOfChangingPrecision:
    """As subprocesses hand them over: numbers that are Python's at one step and NumPy's at another."""

    WIDE = (3, 4, 9)

    def recorder(self, **options):
        calls = iter(range(-1, 10_000))

        def alter(step):
            wide = next(calls) + 1 in self.WIDE
            return step[0], step[1].astype(np.float64 if wide else np.float16), *step[2:]

        return altered(alter, **options)

    @pytest.mark.parametrize("first", [0, 3])
    def test_no_step_is_refused_and_no_value_lost(self, first):
        self.WIDE = tuple(call - first for call in type(self).WIDE)
        venv, other = self.recorder(), self.recorder()
        run(venv, SCENARIO, 0, CALLS)
        run(other, SCENARIO, 0, CALLS)
        state = venv.state_dict()
        expected = SCENARIO.recorded(0, CALLS)
        rews = np.concatenate([each.rews for each in expected])
        assert_same(other.pop_transitions().rews, rews)
        for trajectory, recorded in zip(venv.pop_trajectories()[0], expected, strict=True):
            assert_same(trajectory.rews.astype(np.float64), recorded.rews)
            assert_same(trajectory.obs, recorded.obs)
            assert_same(trajectory.acts, recorded.acts)
        venv.load_state_dict(state)
        assert_same(venv.pop_transitions().rews, rews)

    def test_what_was_popped_before_keeps_its_own(self):
        venv = self.recorder()
        run(venv, SCENARIO, 0, 2)
        before = venv.pop_trajectories()[0]
        run(venv, SCENARIO, 2, CALLS)
        after = venv.pop_trajectories()[0]
        assert {each.rews.dtype.name for each in before} == {"float16"}
        assert {each.rews.dtype.name for each in after} == {"float64"}
        for trajectory, recorded in zip(before, SCENARIO.recorded(0, 2), strict=True):
            assert_same(trajectory.rews, recorded.rews.astype(np.float16))


def test_rewards_from_a_subprocess():
    """Nothing at most steps, and something of single precision at others."""

    class Sparse(CountingEnv):
        def step(self, action):
            obs, rew, *rest = super().step(action)
            return obs, np.float32(rew) if self._t == 2 else 0, *rest

    venv = BufferingWrapper(SubprocVecEnv([lambda: Sparse("box", [EpisodeScript(3)])]))
    venv.reset()
    for _ in range(6):
        venv.step(np.zeros(1, np.int64))
    assert_same(venv.pop_transitions().rews, np.array([0, 2.5, 0, 0, 2.5, 0]))
    venv.close()
