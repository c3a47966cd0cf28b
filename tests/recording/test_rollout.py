from __future__ import annotations

import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gymnasium as gym
import numpy as np
import pytest
from collecting import (
    FOREVER,
    assert_recorded,
    conditions,
    lengths,
    many_episodes,
    scripted,
    seeded,
    shuffled,
    unbiased,
)
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from vecrollout import (
    BufferingWrapper,
    RolloutInfoWrapper,
    TrajectoryWithRew,
    errors,
    flatten_trajectories_with_rew,
    generate_trajectories,
    generate_transitions,
    make_min_episodes,
    make_min_timesteps,
    make_sample_until,
    rollout,
    rollout_stats,
)
from vecrollout.testing import VEC_ENV_SPACES, CountingEnv, EpisodeScript, Scenario, batch_of
from vecrollout.testing.comparison import assert_same


def venv_of(scenario: Scenario) -> DummyVecEnv:
    return DummyVecEnv(scenario.env_fns())


scenarios = st.builds(Scenario, episodes=many_episodes)


class TestGenerateTrajectories:
    @given(scenarios, conditions, st.integers(0, 100))
    def test_no_bias_towards_short_episodes(self, scenario, sample_until, seed) -> None:
        trajectories = generate_trajectories(scripted(scenario), venv_of(scenario), sample_until, seeded(seed))
        assert_recorded(trajectories, shuffled(unbiased(scenario, sample_until), seeded(seed)))

    @pytest.mark.parametrize("space", VEC_ENV_SPACES)
    def test_spaces(self, space) -> None:
        scenario = Scenario(space)
        enough = make_min_episodes(6)
        trajectories = generate_trajectories(scripted(scenario), venv_of(scenario), enough, seeded())
        assert_recorded(trajectories, shuffled(unbiased(scenario, enough), seeded()))

    @pytest.mark.parametrize("action_space", ["box", "discrete", "multi_discrete", "multi_binary"])
    def test_action_spaces(self, action_space) -> None:
        scenario = Scenario(action_space=action_space)
        enough = make_min_episodes(6)
        trajectories = generate_trajectories(scripted(scenario), venv_of(scenario), enough, seeded())
        assert_recorded(trajectories, shuffled(unbiased(scenario, enough), seeded()))

    def test_a_condition_of_ones_own_is_asked_after_every_step(self) -> None:
        seen = []

        def enough(trajectories: Sequence[TrajectoryWithRew]) -> bool:
            seen.append(len(trajectories))
            return sum(each.rews.sum() for each in trajectories) >= 250

        scenario = Scenario(episodes=[[EpisodeScript(2)], [EpisodeScript(3)]])
        generate_trajectories(scripted(scenario), venv_of(scenario), enough, seeded())
        # Environment 0 returns 4, then 12, 20; environment 1 returns 154.5, then 166.5 with step 6.
        assert seen == [0, 1, 2, 3, 3, 5]

    def test_with_enough_from_the_start_each_environment_gives_an_episode(self) -> None:
        scenario = Scenario()
        trajectories = generate_trajectories(scripted(scenario), venv_of(scenario), lambda _: True, seeded())
        assert lengths(trajectories) == lengths([scripts[0].steps * [0] for scripts in scenario.episodes])

    @pytest.mark.parametrize("space", ["box", "dict", "tuple"])
    def test_what_the_policy_gets(self, space) -> None:
        scenario = Scenario(space)
        got = []

        def policy(observations, states, episode_starts):
            got.append((observations, states, episode_starts.copy()))
            return scenario.actions(len(got) - 1), (np.array([len(got)]),)

        generate_trajectories(policy, venv_of(scenario), make_min_episodes(12), seeded())

        # The same calls made by hand; environments whose episodes no longer count are among them.
        venv = venv_of(scenario)
        obs, starts = venv.reset(), np.ones(scenario.num_envs, bool)
        for call, (observations, states, episode_starts) in enumerate(got):
            assert type(observations) is type(obs)
            assert_same(observations, obs)
            assert_same(episode_starts, starts)
            assert states is None if call == 0 else states[0] == call
            obs, _, starts, _ = venv.step(scenario.actions(call))
        assert starts.any()

    def test_random_actions(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(30)]] * 2)
        first, again, other = (
            generate_trajectories(None, venv_of(scenario), make_min_episodes(4), seeded(seed)) for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other
        assert len({each.acts.tobytes() for each in first}) == 4

    def test_the_order_is_the_same_whoever_acts(self) -> None:
        """Random actions take nothing from the stream that shuffles."""
        scenario = Scenario()
        orders = [
            [(each.episode.env_index, each.episode.id) for each in trajectories]
            for trajectories in (
                generate_trajectories(policy, venv_of(scenario), make_min_episodes(9), seeded(5))
                for policy in (None, scripted(scenario))
            )
        ]
        assert orders[0] == orders[1]

    def test_infos(self) -> None:
        scenario = Scenario()
        all_, some, none = (
            generate_trajectories(
                scripted(scenario), venv_of(scenario), make_min_episodes(3), seeded(), record_infos=record_infos
            )
            for record_infos in ("all", ["t"], "none")
        )
        assert [each.infos for each in none] == [None] * len(all_)
        assert [each.infos[-1].keys() for each in some] == [{"t"}] * len(all_)
        assert [each.infos[-1]["t"] for each in all_] == list(map(len, all_))

    def test_around_a_recorder_of_the_users_own(self) -> None:
        scenario = Scenario()
        venv = BufferingWrapper(venv_of(scenario))
        enough = make_min_episodes(4)
        trajectories = generate_trajectories(scripted(scenario), venv, enough, seeded())
        assert_recorded(trajectories, shuffled(unbiased(scenario, enough), seeded()))
        calls = venv.n_transitions // scenario.num_envs
        finished, _ = venv.pop_finished_trajectories()
        assert_recorded(finished, [run for run in scenario.recorded(0, calls) if run.terminal])

    def test_a_premature_reset_is_still_refused(self) -> None:
        scenario = Scenario()
        venv = BufferingWrapper(venv_of(scenario))
        venv.reset()
        venv.step(scenario.actions(0))
        with pytest.raises(errors.PrematureResetError):
            generate_trajectories(scripted(scenario), venv, make_min_episodes(1), seeded())

    def test_the_environments_stay_open(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(3)]])
        venv = venv_of(scenario)
        generate_trajectories(scripted(scenario), venv, make_min_episodes(1), seeded())
        obs, *_ = venv.step(scenario.actions(0))
        assert_same(obs, batch_of(venv.observation_space, [5]))  # step 1 of the second episode, which counts from 4

    def test_a_real_environment(self) -> None:
        venv = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))] * 3)
        venv.seed(0)
        trajectories = generate_trajectories(None, venv, make_min_timesteps(500), seeded())
        assert sum(map(len, trajectories)) >= 500
        stats = rollout_stats(trajectories)
        assert stats["monitor_return_len"] == stats["n_traj"] == len(trajectories)
        assert stats["monitor_return_mean"] == pytest.approx(stats["return_mean"], rel=1e-6) == stats["len_mean"]


class TestExact:
    @given(scenarios, conditions, st.integers(0, 100))
    def test_is_the_beginning_of_the_same_collection(self, scenario, sample_until, seed) -> None:
        more, exact = (
            generate_trajectories(scripted(scenario), venv_of(scenario), sample_until, seeded(seed), exact=exact)
            for exact in (False, True)
        )
        assert exact == sample_until.exactly(more)

    def test_episodes(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(2)]] * 5)
        trajectories = generate_trajectories(
            scripted(scenario), venv_of(scenario), make_min_episodes(7), seeded(), exact=True
        )
        assert lengths(trajectories) == [2] * 7

    def test_timesteps(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(3)]] * 5)
        trajectories = generate_trajectories(
            scripted(scenario), venv_of(scenario), make_min_timesteps(22), seeded(), exact=True
        )
        assert list(map(len, trajectories)) == [3, 3, 3, 3, 3, 3, 3, 1]
        assert [each.terminal for each in trajectories] == [True] * 7 + [False]

    def test_a_condition_of_unknown_number(self) -> None:
        venv = venv_of(Scenario())
        for collect in (generate_trajectories, rollout):
            with pytest.raises(errors.OptionError, match=r"exact: .*make_min_episodes"):
                collect(None, venv, lambda _: True, seeded(), exact=True)


class TestMaxSteps:
    scenario = Scenario(episodes=[[EpisodeScript(3)], [FOREVER], [EpisodeScript(2)], [FOREVER]])

    def collect(self, sample_until, **options) -> list[TrajectoryWithRew]:
        return generate_trajectories(
            scripted(self.scenario), venv_of(self.scenario), sample_until, seeded(3), **options
        )

    def test_stops_and_keeps_what_was_collected(self) -> None:
        with pytest.warns(UserWarning, match="stopped") as warned:
            trajectories = self.collect(make_min_episodes(100), max_steps=7)
        runs = self.scenario.recorded(0, 7)
        finished, running = [run for run in runs if run.terminal], [run for run in runs if not run.terminal]
        assert (len(finished), lengths(running)) == (5, [1, 1, 7, 7])
        assert_recorded(trajectories, shuffled(finished, seeded(3)) + running)

        (warning,) = warned
        message = str(warning.message)
        assert "max_steps=7, before sample_until had enough" in message
        assert "4 of 4 environments were left unfinished" in message
        assert "16 transitions are returned as fragments" in message
        assert warning.filename == __file__

    def test_drops_on_request(self) -> None:
        with pytest.warns(UserWarning, match="16 transitions are dropped"):
            trajectories = self.collect(make_min_episodes(100), max_steps=7, unfinished="drop")
        assert_recorded(trajectories, shuffled([r for r in self.scenario.recorded(0, 7) if r.terminal], seeded(3)))

    def test_only_episodes_that_count_are_missed(self) -> None:
        """With enough after 2 steps, the others' current episodes count, and later ones do not."""
        with pytest.warns(UserWarning, match="max_steps=7: the episodes of 2 of 4 .* their 14 transitions"):
            trajectories = self.collect(make_min_episodes(1), max_steps=7)
        assert [len(each) for each in trajectories if not each.terminal] == [7, 7]
        assert [each.episode.env_index for each in trajectories if not each.terminal] == [1, 3]
        assert lengths([each for each in trajectories if each.terminal]) == [2, 3]

    def test_nothing_running_when_stopped(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(3)]] * 2)
        with pytest.warns(UserWarning, match=r"^stopped after max_steps=3, before sample_until had enough$"):
            trajectories = generate_trajectories(
                scripted(scenario), venv_of(scenario), make_min_episodes(3), seeded(), max_steps=3
            )
        assert lengths(trajectories) == [3, 3]

    @pytest.mark.parametrize("max_steps", [3, 4, 1e3])
    def test_silent_where_it_is_not_in_the_way(self, max_steps) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(3)]] * 2)
        trajectories = generate_trajectories(
            scripted(scenario), venv_of(scenario), make_min_episodes(2), seeded(), max_steps=max_steps
        )
        assert lengths(trajectories) == [3, 3]

    def test_exact(self) -> None:
        with pytest.warns(UserWarning, match="stopped"):
            trajectories = self.collect(make_min_timesteps(14), max_steps=7, exact=True)
        # 12 steps of finished episodes, then fragments.
        assert sum(map(len, trajectories)) == 14
        assert [each.terminal for each in trajectories] == [True] * 5 + [False] * (len(trajectories) - 5)

    @pytest.mark.parametrize("collect", [generate_trajectories, generate_transitions, rollout])
    @pytest.mark.parametrize("max_steps", [0, -1])
    def test_not_positive(self, collect, max_steps) -> None:
        enough = 1 if collect is generate_transitions else make_min_episodes(1)
        with pytest.raises(errors.OptionError, match="max_steps"):
            collect(None, venv_of(Scenario()), enough, seeded(), max_steps=max_steps)

    def test_unfinished_otherwise(self) -> None:
        with pytest.raises(errors.OptionError, match="unfinished"):
            self.collect(make_min_episodes(1), unfinished="maybe")


class TestGenerateTransitions:
    @given(scenarios, st.integers(1, 40), st.integers(0, 100))
    def test_exactly_so_many(self, scenario, n, seed) -> None:
        transitions = generate_transitions(scripted(scenario), venv_of(scenario), n, seeded(seed))
        trajectories = generate_trajectories(scripted(scenario), venv_of(scenario), make_min_timesteps(n), seeded(seed))
        assert len(transitions) == n
        assert transitions == flatten_trajectories_with_rew(trajectories)[:n]

    def test_whole_episodes(self) -> None:
        scenario = Scenario(episodes=[[EpisodeScript(3)]] * 2)
        transitions = generate_transitions(scripted(scenario), venv_of(scenario), 7, seeded(), truncate=False)
        assert len(transitions) == 12
        assert transitions.dones.tolist() == [False, False, True] * 4

    def test_episodes_that_never_end(self) -> None:
        scenario = Scenario(episodes=[[FOREVER]] * 2)
        with pytest.warns(UserWarning, match="10 transitions are returned"):
            transitions = generate_transitions(scripted(scenario), venv_of(scenario), 7, seeded(), max_steps=5)
        assert len(transitions) == 7
        assert not transitions.dones.any()
        assert transitions.rews.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5, 51.5, 52.5]


class Scaled(gym.Wrapper):
    """Halves observations and rewards, as a wrapper between recording and environment may."""

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return obs / 2, info

    def step(self, action):
        obs, rew, *rest = self.env.step(action)
        return (obs / 2, rew / 2, *rest)


def scaled_venv(*episodes: EpisodeScript, num_envs: int = 2) -> DummyVecEnv:
    return DummyVecEnv([lambda: Scaled(RolloutInfoWrapper(CountingEnv("box", episodes)))] * num_envs)


class TestRollout:
    def test_unwraps(self) -> None:
        trajectories = rollout(None, scaled_venv(EpisodeScript(3)), make_min_episodes(4), seeded())
        assert len(trajectories) == 4
        for each in trajectories:
            assert each.obs[:, 0].tolist() == [0, 1, 2, 3]
            assert each.rews.tolist() == [1.5, 2.5, 3.5]
            assert each.infos is None

    def test_as_it_is(self) -> None:
        trajectories = rollout(None, scaled_venv(EpisodeScript(3)), make_min_episodes(4), seeded(), unwrap=False)
        for each in trajectories:
            assert each.obs[:, 0].tolist() == [0, 0.5, 1, 1.5]
            assert each.rews.tolist() == [0.75, 1.25, 1.75]
            assert each.infos is None

    @pytest.mark.parametrize("unwrap", [True, False])
    def test_infos(self, unwrap) -> None:
        trajectories = rollout(
            None, scaled_venv(EpisodeScript(3)), make_min_episodes(2), seeded(), unwrap=unwrap, exclude_infos=False
        )
        for each in trajectories:
            assert [info["t"] for info in each.infos] == [1, 2, 3]

    def test_a_condition_of_ones_own_sees_the_infos(self) -> None:
        def enough(trajectories: Sequence[TrajectoryWithRew]) -> bool:
            return sum(each.infos[-1]["t"] for each in trajectories) >= 9

        trajectories = rollout(None, scaled_venv(EpisodeScript(3)), enough, seeded())
        assert [each.infos for each in trajectories] == [None] * 4

    def test_the_same_trajectories_as_generate_trajectories(self) -> None:
        scenario = Scenario()
        enough = make_min_episodes(5)
        plain = generate_trajectories(scripted(scenario), venv_of(scenario), enough, seeded(4))
        same = rollout(scripted(scenario), venv_of(scenario), enough, seeded(4), unwrap=False, exclude_infos=False)
        assert same == plain

    def test_logs_statistics(self, caplog) -> None:
        with caplog.at_level(logging.INFO):
            trajectories = rollout(None, scaled_venv(EpisodeScript(3)), make_min_episodes(2), seeded())
        (record,) = caplog.records
        assert record.getMessage() == f"Rollout stats: {rollout_stats(trajectories)}"
        assert record.levelno == logging.INFO

    def test_quiet(self, caplog) -> None:
        with caplog.at_level(logging.DEBUG):
            rollout(None, scaled_venv(EpisodeScript(3)), make_min_episodes(2), seeded(), verbose=False)
        assert caplog.records == []

    def test_exact(self) -> None:
        trajectories = rollout(None, scaled_venv(EpisodeScript(3)), make_min_timesteps(8), seeded(), exact=True)
        assert list(map(len, trajectories)) == [3, 3, 2]
        assert trajectories[-1].rews.tolist() == [1.5, 2.5]

    def test_unfinished_episodes_cannot_be_unwrapped(self, caplog) -> None:
        venv = scaled_venv(EpisodeScript(2), FOREVER)
        with pytest.warns(UserWarning, match="6 transitions are dropped"), caplog.at_level(logging.INFO):
            trajectories = rollout(None, venv, make_min_episodes(3), seeded(), max_steps=5)
        assert lengths(trajectories) == [2, 2]
        with pytest.raises(errors.OptionError, match="unfinished"):
            rollout(None, venv, make_min_episodes(3), seeded(), max_steps=5, unfinished="keep")
        with pytest.warns(UserWarning, match="6 transitions are returned"):
            trajectories = rollout(
                None, scaled_venv(EpisodeScript(2), FOREVER), make_min_episodes(3), seeded(), max_steps=5, unwrap=False
            )
        assert lengths(trajectories) == [2, 2, 3, 3]

    def test_nothing_to_show_statistics_of(self) -> None:
        with pytest.warns(UserWarning, match="dropped"):
            assert rollout(None, scaled_venv(FOREVER), make_min_episodes(3), seeded(), max_steps=5) == []

    def test_without_the_wrapper(self) -> None:
        with pytest.raises(errors.ShapeError, match="RolloutInfoWrapper"):
            rollout(None, venv_of(Scenario()), make_min_episodes(1), seeded())


class Altered(VecEnvWrapper):
    """Returns other observations than its space says."""

    def __init__(self, venv, alter) -> None:
        super().__init__(venv)
        self.alter = alter

    def reset(self):
        return self.alter(self.venv.reset())

    def step_wait(self):
        obs, *rest = self.venv.step_wait()
        return (self.alter(obs), *rest)


class TestWhatDoesNotFit:
    def collect(self, policy=None, venv=None, sample_until=None) -> None:
        generate_trajectories(policy, venv or venv_of(Scenario()), sample_until or make_min_episodes(1), seeded())

    def test_observations_of_another_shape(self) -> None:
        venv = Altered(venv_of(Scenario()), lambda obs: obs[:, :2])
        with pytest.raises(errors.ShapeError, match=r"obs: expected shape \(3, 3\), .*got \(3, 2\)"):
            self.collect(venv=venv)

    def test_observations_of_another_shape_within_a_dict(self) -> None:
        venv = Altered(venv_of(Scenario("dict")), lambda obs: {**obs, "position": obs["position"][:, None]})
        with pytest.raises(errors.ShapeError, match=r"obs\['position'\]: expected shape \(3, 2\), .*got \(3, 1, 2\)"):
            self.collect(venv=venv)

    def test_observations_of_another_structure(self) -> None:
        venv = Altered(venv_of(Scenario("dict")), lambda obs: {"camera": obs["camera"]})
        with pytest.raises(errors.StructureError, match=r"camera.*level.*position"):
            self.collect(venv=venv)
        with pytest.raises(errors.StructureError, match="obs"):
            self.collect(venv=Altered(venv_of(Scenario("dict")), lambda obs: obs["camera"]))

    @pytest.mark.parametrize("acts", [np.zeros((3, 1), int), np.zeros(2, int), np.int64(0)])
    def test_actions_of_another_shape(self, acts) -> None:
        with pytest.raises(errors.ShapeError, match=r"acts: expected shape \(3,\)"):
            self.collect(lambda *_: (acts, None))

    def test_actions_of_another_shape_later(self) -> None:
        acts = iter([np.zeros(3, int), np.zeros((3, 1), int)])
        with pytest.raises(errors.ShapeError, match="acts"):
            self.collect(lambda *_: (next(acts), None), DummyVecEnv([lambda: CountingEnv()] * 3))

    @pytest.mark.parametrize("returned", [np.zeros(3, int), [0, 0], None, (np.zeros(3, int),)])
    def test_a_policy_that_returns_no_states(self, returned) -> None:
        with pytest.raises(errors.PolicyError, match=r"\(actions, states\)"):
            self.collect(lambda *_: returned)

    def test_lists_of_actions(self) -> None:
        self.collect(lambda *_: ([0, 1, 2], None))

    def test_no_environment(self) -> None:
        with pytest.raises(errors.ArgumentTypeError, match=r"venv: .*VecEnv.*VectorEnv.*got str"):
            self.collect(venv="CartPole-v1")

    @pytest.mark.parametrize("rng", [0, None])
    def test_a_seed_for_a_generator(self, rng) -> None:
        """Before the collection, whose result would else be lost."""
        with pytest.raises(errors.ArgumentTypeError, match="rng"):
            generate_trajectories(lambda *_: pytest.fail("acted"), venv_of(Scenario()), lambda _: True, rng)

    def test_a_policy_that_changes_what_it_is_given(self) -> None:
        scenario = Scenario()

        def policy(observations, states, episode_starts):
            observations *= 0
            episode_starts[:] = False
            return np.zeros(3, int), None

        trajectories = generate_trajectories(policy, venv_of(scenario), make_min_episodes(6), seeded())
        expected = shuffled(unbiased(scenario, make_min_episodes(6)), seeded())
        assert_same([each.obs for each in trajectories], [each.obs for each in expected])

    def test_a_number_for_a_condition(self) -> None:
        with pytest.raises(errors.ArgumentTypeError, match=r"make_min_episodes.*got 10"):
            self.collect(sample_until=10)


@contextmanager
def terminal() -> Iterator[list[str]]:
    """Makes standard error a real terminal; what is written there is in the list afterwards."""
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    shown: list[str] = []

    def read() -> None:
        written = b""
        try:
            while chunk := os.read(ours, 1024):
                written += chunk
        except OSError:  # how Linux says that the other side was closed
            pass
        shown.append(written.decode())

    # Beside, for a terminal holds only so much.
    reader = threading.Thread(target=read)
    reader.start()
    # Not as a fixture: pytest sets standard error anew when a test begins.
    before = sys.stderr
    try:
        with os.fdopen(theirs, "w") as sys.stderr:
            yield shown
    finally:
        sys.stderr = before
        reader.join()
        os.close(ours)


class TestProgress:
    scenario = Scenario(episodes=[[EpisodeScript(2)]] * 2)

    def collect(self, progress, sample_until=None, **options) -> list[TrajectoryWithRew]:
        enough = sample_until or make_min_episodes(6)
        return generate_trajectories(
            scripted(self.scenario), venv_of(self.scenario), enough, seeded(), progress=progress, **options
        )

    @pytest.mark.parametrize("progress", [True, "tqdm", "rich"])
    @pytest.mark.parametrize(
        ("sample_until", "count", "unit"),
        [
            (make_min_episodes(6), "6/6", "episodes"),
            (make_min_timesteps(12), "12/12", "steps"),
            (make_sample_until(min_episodes=6), "6/6", "episodes"),
            (make_sample_until(min_episodes=1, min_timesteps=12), "12/12", "steps"),
            # What goes beyond stands beside.
            (make_min_episodes(5), "5/5", "episodes"),
            (lambda trajectories: len(trajectories) >= 6, "6", "episodes"),
        ],
    )
    def test_on_a_terminal(self, progress, sample_until, count, unit) -> None:
        pytest.importorskip("rich" if progress == "rich" else "tqdm")
        with terminal() as shown:
            assert len(self.collect(progress, sample_until)) == 6
        (text,) = shown
        assert count in text
        assert unit in text
        assert "6 episodes, 12 steps" in text

    @pytest.mark.parametrize("progress", [False, True, "tqdm", "rich"])
    def test_silent_elsewhere(self, progress, capfd) -> None:
        self.collect(progress)
        assert capfd.readouterr() == ("", "")

    def test_silent_without_a_console(self, monkeypatch) -> None:
        monkeypatch.setattr(sys, "stderr", None)
        self.collect(True)

    def test_silent_on_a_terminal_unless_asked(self) -> None:
        with terminal() as shown:
            self.collect(False)
        assert shown == [""]

    @pytest.mark.parametrize("progress", [True, "rich"])
    def test_the_trajectories_are_the_same(self, progress) -> None:
        pytest.importorskip("rich" if progress == "rich" else "tqdm")
        with terminal():
            assert self.collect(progress) == self.collect(False)

    @pytest.mark.parametrize(("progress", "extra"), [(True, "progress"), ("tqdm", "progress"), ("rich", "rich")])
    def test_missing_package(self, monkeypatch, progress, extra) -> None:
        monkeypatch.setitem(sys.modules, "rich" if progress == "rich" else "tqdm", None)
        with pytest.raises(errors.MissingDependencyError, match=rf"vecrollout\[{extra}\]"):
            self.collect(progress)

    @pytest.mark.parametrize("progress", ["alive", 3, None])
    def test_another_kind(self, progress) -> None:
        with pytest.raises(errors.OptionError, match="progress"):
            self.collect(progress)

    def test_other_collections_pass_it_on(self) -> None:
        pytest.importorskip("tqdm")
        with terminal() as shown:
            rollout(None, scaled_venv(EpisodeScript(2)), make_min_episodes(2), seeded(), progress=True)
            generate_transitions(None, venv_of(self.scenario), 8, seeded(), progress=True)
        (text,) = shown
        assert "2 episodes, 4 steps" in text
        assert "4 episodes, 8 steps" in text
