"""The tests that every recorder must pass."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from vecrollout.data.stitching import stitch
from vecrollout.data.trajectory import TrajectoryWithRew
from vecrollout.errors import BufferFullError, EmptyBufferError, PrematureResetError, ProtocolError
from vecrollout.recording.inner import CopyingWrapper
from vecrollout.testing.comparison import assert_same
from vecrollout.testing.harness import CALLS, RecorderHarness
from vecrollout.testing.plain_trees import fill, joined, rows_of
from vecrollout.testing.scenario import Recorded

_CUTS = (0, 1, 3, 4, 8, CALLS)


class RecorderConformance(RecorderHarness):
    """Tests that a recorder returns what the environments did, and accounts for every step.

    Inherit from it and override `make_recorder`. Override `reset` and `step` too if the recorder is not used like a
    Stable-Baselines3 `VecEnv`. pytest then collects the subclass:

        class TestMyRecorder(RecorderConformance):
            def make_recorder(self, env_fns, **options):
                return MyRecorder(DummyVecEnv(env_fns), **options)

    The recorder must have these members of `vecrollout.BufferingWrapper`: the attributes `stepped`, `held`, `popped`,
    `sunk`, `dropped` and `n_transitions`, and the methods `pop_transitions`, `pop_trajectories`,
    `pop_finished_trajectories`, `state_dict`, `load_state_dict` and `close`.
    """

    # Exact

    def test_trajectories_are_what_happened(self, recorder_of: Any, space: str) -> None:
        """For every observation space."""
        scenario = self.scenario(space=space)
        recorder = recorder_of(scenario)
        self.run(recorder, scenario)
        trajectories, lengths = recorder.pop_trajectories()
        expected = scenario.recorded(0, CALLS)
        self.assert_trajectories(trajectories, expected)
        assert list(lengths) == [each.stop_step for each in expected if each.terminal]

    def test_actions_are_those_taken(self, recorder_of: Any, action_space: str) -> None:
        """For every action space."""
        scenario = self.scenario(action_space=action_space)
        recorder = recorder_of(scenario)
        self.run(recorder, scenario)
        self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))

    def test_transitions_are_what_happened(self, recorder_of: Any, space: str) -> None:
        """Steps in the order of the trajectories, each with the observation that followed."""
        scenario = self.scenario(space=space)
        recorder = recorder_of(scenario)
        self.run(recorder, scenario)
        transitions = recorder.pop_transitions()
        expected = scenario.recorded(0, CALLS)
        assert_same(transitions.obs, joined([rows_of(each.obs, slice(None, -1)) for each in expected]), "obs")
        assert_same(transitions.next_obs, joined([rows_of(each.obs, slice(1, None)) for each in expected]), "next_obs")
        assert_same(transitions.acts, np.concatenate([each.acts for each in expected]), "acts")
        rews = np.concatenate([each.rews for each in expected])
        assert_same(transitions.rews, rews.astype(self.reward_dtype), "rews")
        steps = [t + 1 for each in expected for t in range(each.start_step, each.stop_step)]
        assert [info["t"] for info in transitions.infos] == steps
        seen = {"dones": "terminal", "terminated": "terminated", "truncated": "truncated"}
        last = np.cumsum([len(each) for each in expected]) - 1
        for name, attribute in seen.items():
            flags = np.zeros(len(steps), dtype=bool)
            flags[last] = [getattr(each, attribute) for each in expected]
            if name == "truncated" and not self.sees_both:
                flags[last] &= [not each.terminated for each in expected]
            assert_same(getattr(transitions, name), flags, name)
        self.assert_accounts(recorder, popped=len(steps))

    def test_popped_fragments_join_to_episodes(self, recorder_of: Any, space: str) -> None:
        """A pop at any time takes everything and cuts running episodes. Their fragments join again."""
        scenario = self.scenario(space=space)
        recorder = recorder_of(scenario)
        fragments: dict[int, list[TrajectoryWithRew]] = {}
        for start, stop in pairwise(_CUTS):
            self.run(recorder, scenario, start, stop)
            trajectories, lengths = recorder.pop_trajectories()
            expected = scenario.recorded(start, stop)
            self.assert_trajectories(trajectories, expected)
            assert list(lengths) == [each.stop_step for each in expected if each.terminal]
            self.assert_accounts(recorder, popped=scenario.steps(stop))
            for each in trajectories:
                assert each.episode.id is not None
                fragments.setdefault(each.episode.id, []).append(each)
        whole = [stitch(each) for each in fragments.values()]
        key = ("env_index", "episode")
        self.assert_trajectories(
            sorted(whole, key=lambda each: (each.episode.env_index, each.episode.reset_info["episode"])),  # type: ignore[index]
            sorted(scenario.recorded(0, CALLS), key=lambda each: [getattr(each, name) for name in key]),
        )

    def test_finished_trajectories_leave_the_running_ones(self, recorder_of: Any) -> None:
        """Running episodes stay, are counted, and come whole when they are finished."""
        scenario = self.scenario()
        recorder = recorder_of(scenario)
        everything = scenario.recorded(0, CALLS)
        popped = 0
        for stop in range(CALLS + 1):
            if stop:
                self.run(recorder, scenario, stop - 1, stop)
            finished = [each for each in scenario.recorded(0, stop) if each.terminal][popped:]
            trajectories, lengths = recorder.pop_finished_trajectories()
            self.assert_trajectories(trajectories, finished)
            assert list(lengths) == [each.stop_step for each in finished]
            popped += len(finished)
            steps = sum(len(each) for each in everything[:popped])
            self.assert_accounts(recorder, popped=steps, held=scenario.steps(stop) - steps)
        self.assert_trajectories(recorder.pop_trajectories()[0], everything[popped:])

    def test_episodes_have_unique_ids_and_the_seeds_they_were_given(self, recorder_of: Any) -> None:
        """An episode that an autoreset began has no seed."""
        scenario = self.scenario()
        recorder = recorder_of(scenario, seed=40)
        self.run(recorder, scenario)
        trajectories = recorder.pop_trajectories()[0]
        assert len({each.episode.id for each in trajectories}) == len(trajectories)
        for each in trajectories:
            is_first = each.episode.reset_info["episode"] == 0
            assert each.episode.seed == (40 + each.episode.env_index if is_first else None)
            assert each.episode.reset_info["seed"] == each.episode.seed

    def test_reused_arrays_below_a_copying_wrapper(self, recorder_of: Any, space: str) -> None:
        """An environment that fills the same arrays and the same info dict at every step."""
        scenario = self.scenario(space=space, reuse_obs=True, reuse_info=True)
        recorder = recorder_of(scenario, wrap=CopyingWrapper)
        self.run(recorder, scenario)
        self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))

    def test_reused_action_array(self, recorder_of: Any, action_space: str) -> None:
        """A caller that fills the same array at every step."""
        scenario = self.scenario(action_space=action_space)
        recorder = recorder_of(scenario)
        actions = scenario.actions(0)
        for call in range(CALLS):
            fill(actions, scenario.actions(call))
            self.step(recorder, actions)
        fill(actions, scenario.actions(CALLS))
        self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))

    def test_what_was_popped_never_changes(self, recorder_of: Any) -> None:
        """Later steps change nothing, even if only a part of a trajectory is still referenced."""
        scenario = self.scenario(space="dict")
        recorder = recorder_of(scenario)
        kept: list[tuple[Any, Recorded]] = []
        for start, stop in pairwise(range(0, 80, 3)):
            self.run(recorder, scenario, start, stop)
            trajectories = recorder.pop_trajectories()[0]
            expected = scenario.recorded(start, stop)
            kept.extend((each.obs.get("position")[1:], was) for each, was in zip(trajectories, expected, strict=True))
        for view, was in kept:
            assert_same(view, was.obs["position"][1:])

    # Accounted

    def test_nothing_was_recorded(self, recorder_of: Any) -> None:
        """An empty recorder refuses to pop transitions, and pops no trajectories."""
        recorder = recorder_of(self.scenario())
        with pytest.raises(EmptyBufferError, match="empty"):
            recorder.pop_transitions()
        assert recorder.pop_trajectories() == ([], [])
        assert recorder.pop_finished_trajectories() == ([], [])
        self.assert_accounts(recorder)

    def test_step_before_reset(self) -> None:
        """It is refused. Recording works afterwards."""
        scenario = self.scenario()
        recorder = self.make_recorder(scenario.env_fns())
        try:
            with pytest.raises(ProtocolError, match="reset"):
                self.step(recorder, scenario.actions(0))
            self.assert_accounts(recorder)
            self.reset(recorder)
            self.run(recorder, scenario)
            self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS))
        finally:
            recorder.close()

    def test_premature_reset_is_refused(self, recorder_of: Any) -> None:
        """While anything is held, such as a running fragment. The environments are not reset, and go on."""
        scenario = self.scenario()
        recorder = recorder_of(scenario)
        self.run(recorder, scenario, 0, 1)
        recorder.pop_finished_trajectories()
        with pytest.raises(PrematureResetError):
            self.reset(recorder)
        self.run(recorder, scenario, 1)
        popped = [each for each in scenario.recorded(0, 1) if each.terminal]
        self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, CALLS)[len(popped) :])

    def test_premature_reset_closes_what_runs(self, recorder_of: Any) -> None:
        """If it is not refused, nothing is lost."""
        scenario = self.scenario(resets=(5, 6, 9))
        recorder = recorder_of(scenario, error_on_premature_reset=False)
        self.run(recorder, scenario)
        trajectories, lengths = recorder.pop_trajectories()
        expected = scenario.recorded(0, CALLS)
        assert any(each.ended_by == "reset_early" for each in expected)
        self.assert_trajectories(trajectories, expected)
        assert list(lengths) == [each.stop_step for each in expected if each.terminal]
        self.assert_accounts(recorder, popped=scenario.steps(CALLS))

    def test_premature_reset_drops_what_runs(self, recorder_of: Any) -> None:
        """By option. Dropped steps are counted, and finished trajectories stay."""
        scenario = self.scenario(resets=(5, 6, 9))
        recorder = recorder_of(scenario, error_on_premature_reset=False, early_reset="drop")
        self.run(recorder, scenario)
        trajectories = recorder.pop_trajectories()[0]
        expected = [each for each in scenario.recorded(0, CALLS) if each.ended_by != "reset_early"]
        self.assert_trajectories(trajectories, expected)
        popped = sum(map(len, expected))
        self.assert_accounts(recorder, popped=popped, dropped=scenario.steps(CALLS) - popped)

    def test_close_finishes_what_runs(self, recorder_of: Any) -> None:
        """The trajectories can still be popped. A second close does nothing."""
        scenario = self.scenario()
        recorder = recorder_of(scenario)
        self.run(recorder, scenario)
        recorder.close()
        recorder.close()
        self.assert_accounts(recorder, held=scenario.steps(CALLS))
        self.assert_trajectories(recorder.pop_finished_trajectories()[0], scenario.recorded(0, CALLS, closed=True))

    # Options

    def test_sink_takes_what_is_finished_at_once(self, recorder_of: Any) -> None:
        """In the order of the ends. Running episodes stay until the recorder is closed."""
        scenario = self.scenario()
        sink: list[TrajectoryWithRew] = []
        recorder = recorder_of(scenario, sink=sink)
        for call in range(CALLS):
            self.run(recorder, scenario, call, call + 1)
            finished = [each for each in scenario.recorded(0, call + 1) if each.terminal]
            assert len(sink) == len(finished)
            sunk = sum(map(len, finished))
            self.assert_accounts(recorder, sunk=sunk, held=scenario.steps(call + 1) - sunk)
        recorder.close()
        self.assert_trajectories(sink, scenario.recorded(0, CALLS, closed=True))

    def test_what_a_sink_refuses_stays_held(self, recorder_of: Any) -> None:
        """The step that ended the trajectory counts too."""
        scenario = self.scenario()
        recorder = recorder_of(scenario, sink=_Refusing())
        calls = 0
        with pytest.raises(_RefusedError):  # noqa: PT012  # how many calls come before is what is counted
            for call in range(CALLS):
                calls = call + 1
                self.run(recorder, scenario, call, call + 1)
        self.assert_accounts(recorder, held=scenario.steps(calls))
        self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(0, calls))

    def test_max_transitions_refuses_a_step(self, recorder_of: Any) -> None:
        """The environments are not stepped. After a pop they go on."""
        scenario = self.scenario()
        most = 4 * scenario.num_envs + 1
        recorder = recorder_of(scenario, max_transitions=most)
        start = call = 0
        while call < CALLS:
            try:
                self.run(recorder, scenario, call, call + 1)
                call += 1
            except BufferFullError:
                assert most - scenario.num_envs < recorder.held <= most
                self.assert_trajectories(recorder.pop_trajectories()[0], scenario.recorded(start, call))
                start = call
        assert start > 0
        self.assert_accounts(recorder, popped=scenario.steps(start), held=scenario.steps(CALLS) - scenario.steps(start))

    def test_max_transitions_drops_the_oldest(self, recorder_of: Any) -> None:
        """By option. Dropped steps are counted, and the latest steps stay."""
        scenario = self.scenario()
        most = 8 * scenario.num_envs
        recorder = recorder_of(scenario, max_transitions=most, on_full="drop_oldest")
        for call in range(CALLS):
            self.run(recorder, scenario, call, call + 1)
            assert recorder.held <= most
            assert recorder.held + recorder.dropped == recorder.stepped == scenario.steps(call + 1)
        assert recorder.dropped > 0
        trajectories = recorder.pop_trajectories()[0]
        expected = scenario.recorded(0, CALLS)
        gone = len(expected) - len(trajectories)
        self.assert_trajectories(trajectories, expected[gone:])
        dropped = sum(map(len, expected[:gone]))
        self.assert_accounts(recorder, dropped=dropped, popped=scenario.steps(CALLS) - dropped)

    def test_infos_can_be_left_out(self, recorder_of: Any) -> None:
        """Trajectories have no infos, and transitions have empty ones."""
        scenario = self.scenario()
        recorder = recorder_of(scenario, record_infos="none")
        self.run(recorder, scenario, 0, 7)
        assert all(each.infos is None for each in recorder.pop_trajectories()[0])
        self.run(recorder, scenario, 7)
        assert list(recorder.pop_transitions().infos) == [{}] * (scenario.steps(CALLS) - scenario.steps(7))

    def test_infos_of_some_keys(self, recorder_of: Any) -> None:
        """A key that an info does not have is not in it."""
        scenario = self.scenario()
        recorder = recorder_of(scenario, record_infos=["t", "nowhere"])
        self.run(recorder, scenario)
        trajectories = recorder.pop_trajectories()[0]
        self.assert_trajectories(trajectories, scenario.recorded(0, CALLS))
        assert all(info.keys() == {"t"} for each in trajectories for info in each.infos)

    def test_state_goes_through_a_file(self, recorder_of: Any) -> None:
        """A recorder over environments brought to the same state goes on where another one was saved."""
        scenario = self.scenario(space="dict")
        saved = recorder_of(scenario)
        self.run(saved, scenario, 0, 4)
        saved.pop_trajectories()
        self.run(saved, scenario, 4, 8)
        file = io.BytesIO()
        np.savez(file, **saved.state_dict())
        file.seek(0)
        loaded = recorder_of(scenario)
        self.run(loaded, scenario, 0, 8)
        with np.load(file, allow_pickle=False) as state:
            loaded.load_state_dict(state)
        before, after = scenario.steps(4), scenario.steps(CALLS) - scenario.steps(4)
        for recorder in (saved, loaded):
            self.run(recorder, scenario, 8)
            self.assert_accounts(recorder, popped=before, held=after)
            trajectories, lengths = recorder.pop_trajectories()
            expected = scenario.recorded(4, CALLS)
            self.assert_trajectories(trajectories, expected)
            assert list(lengths) == [each.stop_step for each in expected if each.terminal]


class _RefusedError(Exception):
    """What `_Refusing` raises."""


class _Refusing:
    """A sink that takes nothing."""

    def append(self, trajectory: TrajectoryWithRew) -> None:
        raise _RefusedError(f"a trajectory of {len(trajectory)} steps")
