"""What `VecEnv`s that are not SB3's leave out about episodes that end: last observations, reset infos, time limits."""

from __future__ import annotations

import numpy as np
import pytest
from custom_venv import CustomVecEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from vecrollout import BufferingWrapper, generate_transitions, open_traces, record_traces
from vecrollout.errors import MissingTerminalObservationError, OptionError, ProtocolError
from vecrollout.testing import CountingEnv, EpisodeScript, Scenario, assert_same

SCENARIO = Scenario()
CALLS = 13


def lost(step):
    """As procgen's environments do."""
    for info in step[3]:
        info.pop("terminal_observation", None)
    return tuple(step)


def recorded(alter=lost, **options):
    recorder = BufferingWrapper(CustomVecEnv(SCENARIO.env_fns(), alter), **options)
    recorder.reset()
    for call in range(CALLS):
        recorder.step(SCENARIO.actions(call))
    return recorder


class TestMissingLastObservations:
    def test_raises_by_default(self):
        with pytest.raises(MissingTerminalObservationError, match='missing_final_obs="drop" or "mark"'):
            recorded()

    def test_dropped(self):
        recorder = recorded(missing_final_obs="drop")
        expected = SCENARIO.recorded(0, CALLS)
        trajectories, lengths = recorder.pop_trajectories()
        assert lengths == []
        rows = [(each, len(each) - each.terminal) for each in expected]
        rows = [(each, steps) for each, steps in rows if steps]
        for trajectory, (each, steps) in zip(trajectories, rows, strict=True):
            assert_same(trajectory.obs, each.obs[: steps + 1])
            assert_same(trajectory.acts, each.acts[:steps])
            assert trajectory.episode.ended_by is None
        assert recorder.dropped == sum(each.terminal for each in expected)
        assert recorder.stepped == recorder.popped + recorder.dropped == 3 * CALLS

    def test_marked(self):
        trajectories, lengths = recorded(missing_final_obs="mark").pop_trajectories()
        expected = SCENARIO.recorded(0, CALLS)
        assert lengths == [each.stop_step for each in expected if each.terminal]
        for trajectory, each in zip(trajectories, expected, strict=True):
            assert_same(trajectory.obs, each.obs[[*range(len(each)), len(each) - each.terminal]])
            marks = [info.get("final_obs_missing", False) for info in trajectory.infos]
            assert marks == [False] * (len(each) - each.terminal) + [True] * each.terminal
            assert not any("terminal_observation" in info for info in trajectory.infos)

    def test_to_disk(self, tmp_path):
        recorder = record_traces(CustomVecEnv(SCENARIO.env_fns(), lost), tmp_path, missing_final_obs="drop")
        recorder.reset()
        for call in range(CALLS):
            recorder.step(SCENARIO.actions(call))
        recorder.close()
        assert sum(map(len, open_traces(tmp_path))) == recorder.delivered == 3 * CALLS - recorder.dropped

    def test_collected(self):
        venv = CustomVecEnv(SCENARIO.env_fns(), lost)
        transitions = generate_transitions(None, venv, 10, np.random.default_rng(0), missing_final_obs="mark")
        assert len(transitions) == 10

    def test_another_option(self):
        with pytest.raises(OptionError, match='missing_final_obs: expected "raise", "drop" or "mark", got'):
            BufferingWrapper(DummyVecEnv([CountingEnv]), missing_final_obs="ignore")
        with pytest.raises(OptionError, match="missing_final_obs: only for environments that reset themselves"):
            record_traces(CountingEnv(), "traces", missing_final_obs="drop")


class TestResetsBehindTheRecorder:
    @pytest.mark.parametrize("wrap", [lambda venv: venv, VecNormalize], ids=["recorder", "above"])
    def test_of_single_environments_are_refused(self, wrap):
        """Also through a wrapper around the recorder. Nothing is reset, and recording goes on."""
        recorder = BufferingWrapper(DummyVecEnv([lambda: CountingEnv(episodes=[EpisodeScript(9)])] * 2))
        venv = wrap(recorder)
        venv.reset()
        venv.step(np.zeros(2, int))
        for name in ("reset", "step"):
            with pytest.raises(ProtocolError, match=f'env_method: .*got "{name}".*call reset.*set_options'):
                venv.env_method(name, indices=[0])
        venv.step(np.zeros(2, int))
        assert [each.obs[:, 0].tolist() for each in recorder.pop_trajectories()[0]] == [[0, 1, 2]] * 2

    def test_other_methods_pass(self):
        recorder = BufferingWrapper(DummyVecEnv([CountingEnv] * 3))
        assert recorder.env_method("get_wrapper_attr", "render_mode", indices=[0, 2]) == [None, None]
