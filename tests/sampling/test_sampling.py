"""What is drawn, from what, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import vecrollout as vr
from vecrollout import (
    NStepTransitions,
    TraceWriter,
    TrajectoryBatch,
    TrajectoryWithRew,
    Windows,
    open_traces,
)
from vecrollout.data.sampling.step_index import StepIndex
from vecrollout.data.sampling.transitions import NStepItems, StepItems
from vecrollout.data.sampling.windows import WindowItems
from vecrollout.data.trajectory import cut
from vecrollout.errors import (
    ArgumentTypeError,
    DamagedTraceError,
    DtypeError,
    OptionError,
    ShapeError,
    StateError,
    StructureError,
)
from vecrollout.testing import SPACES, batch_of
from vecrollout.testing.comparison import assert_same, leaves_of

LENGTHS = [3, 1, 7, 2, 10]
STEPS = sum(LENGTHS)


def batch(lengths: list[int] = LENGTHS, **columns: Any) -> TrajectoryBatch:
    steps, count = sum(lengths), len(lengths)
    given = {
        "obs": np.arange((steps + count) * 2, dtype=np.float32).reshape(-1, 2),
        "acts": np.arange(steps),
        "rews": np.arange(steps, dtype=np.float32),
        "lengths": lengths,
        "terminated": np.ones(count, bool),
    }
    return TrajectoryBatch.from_arrays(**{**given, **columns})


def written(path: Path, *batches: TrajectoryBatch, **options: Any) -> vr.TraceDataset:
    for each in batches:
        with TraceWriter(path, **options) as writer:
            writer.extend(each)
    return open_traces(path)


@pytest.fixture(params=["memory", "disk"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return batch() if request.param == "memory" else written(tmp_path, batch())


class TestDraws:
    def test_the_same_generator_state_gives_the_same(self, source: Any) -> None:
        first, second = (source.sample_transitions(9, np.random.default_rng(3)) for _ in range(2))
        assert first == second
        other = (
            source.sample_windows(2, 9, np.random.default_rng(3)),
            source.sample_windows(2, 9, np.random.default_rng(3)),
        )
        assert_same(vars(other[0]), vars(other[1]))

    def test_memory_and_disk_give_the_same(self, tmp_path: Path) -> None:
        ours, theirs = batch(), written(tmp_path, batch())
        assert ours.sample_transitions(50, np.random.default_rng(0)) == theirs.sample_transitions(
            50, np.random.default_rng(0)
        )

    def test_every_step_comes_as_often(self, source: Any) -> None:
        drawn = source.sample_transitions(23_000, np.random.default_rng(0)).acts
        counts = np.bincount(drawn, minlength=STEPS)
        assert len(counts) == STEPS
        assert (abs(counts - 1000) < 200).all()

    def test_copies_that_can_be_written_to(self, source: Any) -> None:
        drawn = source.sample_transitions(5, np.random.default_rng(0))
        for name in ("obs", "next_obs", "acts", "rews", "dones", "terminated", "truncated"):
            getattr(drawn, name)[:] = 0
        windows = source.sample_windows(2, 5, np.random.default_rng(0))
        windows.obs[:], windows.acts[:], windows.mask[:] = 0, 0, False
        assert source[0].obs[0, 1] == 1

    def test_none(self, source: Any) -> None:
        assert len(source.sample_transitions(0, np.random.default_rng(0))) == 0
        assert source.sample_windows(2, 0, np.random.default_rng(0)).obs.shape == (0, 3, 2)

    def test_infos_are_left_out_unless_asked_for(self, tmp_path: Path) -> None:
        infos = [{"t": t} for t in range(STEPS)]
        for source in (batch(infos=infos), written(tmp_path, batch(infos=infos))):
            drawn = source.sample_transitions(4, np.random.default_rng(0), infos=True)
            assert [each["t"] for each in drawn.infos] == drawn.acts.tolist()
            assert source.sample_transitions(2, np.random.default_rng(0)).infos.tolist() == [{}, {}]

    def test_without_rewards(self, tmp_path: Path) -> None:
        for source in (batch(rews=None), written(tmp_path, batch(rews=None))):
            assert type(source.sample_transitions(2, np.random.default_rng(0))) is vr.Transitions
            assert source.sample_windows(2, 3, np.random.default_rng(0)).rews is None
            assert source.normalization().rews is None
            with pytest.raises(ArgumentTypeError, match="rewards"):
                source.n_step(2, 0.9)
            with pytest.raises(ArgumentTypeError, match="rewards"):
                source.returns_to_go()
            with pytest.raises(ArgumentTypeError, match="rewards"):
                source.windows(2, returns_to_go=1.0)

    def test_what_a_recorder_popped(self) -> None:
        venv = vr.VectorBufferingWrapper(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3))
        venv.reset(seed=0)
        for _ in range(60):
            venv.step(venv.action_space.sample())
        popped = TrajectoryBatch.from_trajectories(venv.pop_trajectories()[0])
        drawn = popped.sample_transitions(100, np.random.default_rng(0))
        known = {(each["obs"].tobytes(), each["next_obs"].tobytes()) for each in popped.transitions()}
        assert {(each["obs"].tobytes(), each["next_obs"].tobytes()) for each in drawn} <= known
        venv.close()

    def test_what_a_sink_gets(self) -> None:
        class Sink(list[TrajectoryBatch]):
            def extend(self, delivered: Any) -> None:
                super().append(delivered)

        sink = Sink()
        venv = vr.VectorBufferingWrapper(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3), sink=sink)
        venv.reset(seed=0)
        for _ in range(60):
            venv.step(venv.action_space.sample())
        assert sink
        for delivered in sink:
            assert isinstance(delivered, TrajectoryBatch)
            assert delivered.steps()[:].obs.tolist() == delivered.transitions().obs.tolist()
        venv.close()


class TestItems:
    def test_by_number(self, source: Any) -> None:
        steps = source.steps()
        assert len(steps) == STEPS
        assert steps[-1]["acts"] == STEPS - 1
        assert steps[2:5].acts.tolist() == [2, 3, 4]
        assert steps[[-1, 0]].acts.tolist() == [STEPS - 1, 0]
        assert steps[np.arange(STEPS) > 20].acts.tolist() == [21, 22]
        assert len(steps[[]]) == 0
        assert [each["acts"] for each in steps] == list(range(STEPS))
        assert type(source.n_step(2, 0.9)[:2]) is NStepTransitions
        assert type(source.windows(2)[:2]) is Windows

    @pytest.mark.parametrize("key", [STEPS, -STEPS - 1, [0, STEPS], np.array([-99])])
    def test_out_of_range(self, source: Any, key: Any) -> None:
        with pytest.raises(IndexError, match=f"{STEPS} items"):
            source.steps()[key]

    @pytest.mark.parametrize("key", ["a", 1.5, [1.5], (1, 2), True, [[1]], None, [True, False]])
    def test_other_keys(self, source: Any, key: Any) -> None:
        with pytest.raises(ArgumentTypeError, match="expected an integer"):
            source.steps()[key]

    def test_pickled(self, tmp_path: Path) -> None:
        for source in (batch(), written(tmp_path, batch())):
            for items in (source.steps(frame_stack=2), source.windows(2, returns_to_go=0.5), source.n_step(2, 0.9)):
                items[:1]
                again = pickle.loads(pickle.dumps(items))
                assert len(again) == len(items)
                assert_same(vars(again[:]), vars(items[:]))

    def test_pickled_items_of_a_trace_that_grew_are_refused(self, tmp_path: Path) -> None:
        pickled = pickle.dumps(written(tmp_path, batch()).steps())
        written(tmp_path, batch())
        with pytest.raises(StateError, match=f"{STEPS} steps.*got 10 with {2 * STEPS}"):
            pickle.loads(pickled)

    def test_refresh_shows_new_steps(self, tmp_path: Path) -> None:
        traces = written(tmp_path, batch())
        before = traces.steps()
        written(tmp_path, batch())
        traces.refresh()
        assert len(traces.steps()) == 2 * STEPS
        assert before[:] == traces.steps()[:STEPS]


class TestWindows:
    def test_padding(self) -> None:
        source = batch([3])
        assert source.windows(2)[:].acts.tolist() == [[0, 1], [1, 2]]
        after = source.windows(2, pad="after")[:]
        assert after.acts.tolist() == [[0, 1], [1, 2], [2, 0]]
        assert after.mask.tolist() == [[True, True], [True, True], [True, False]]
        before = source.windows(2, pad="before")[:]
        assert before.acts.tolist() == [[0, 0], [0, 1], [1, 2]]
        assert before.timesteps.tolist() == [[0, 0], [0, 1], [1, 2]]
        assert before.obs[0].tolist() == [[0, 0], [0, 1], [2, 3]]
        assert after.terminated.tolist() == [[False, False], [False, True], [True, False]]
        assert repr(after).startswith("<Windows of 3 x 2 steps: obs float32[3, 3, 2]")

    def test_chunks_cover_each_step_once(self, source: Any) -> None:
        chunks = source.windows(4, stride=4, pad="after")[:]
        assert sorted(chunks.acts[chunks.mask]) == list(range(STEPS))

    def test_none_is_as_long(self, source: Any) -> None:
        assert len(source.windows(11)) == 0
        with pytest.raises(ShapeError, match="at least one"):
            source.sample_windows(11, 2, np.random.default_rng(0))

    def test_fragments_count_steps_of_their_episode(self, tmp_path: Path) -> None:
        obs = np.arange(9.0)
        whole = TrajectoryWithRew(obs, np.arange(8), None, True, np.ones(8))
        parts = [cut(whole, 0, 5), cut(whole, 5, 8)]
        assert [each.episode.start_step for each in parts] == [0, 5]
        with TraceWriter(tmp_path) as writer:
            writer.extend(parts)
        for source in (TrajectoryBatch.from_trajectories(parts), open_traces(tmp_path)):
            windows = source.windows(3)[:]
            assert windows.timesteps.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7]]
            assert windows.truncated.sum() == 0


class TestNStep:
    def test_bootstraps_where_an_episode_was_cut(self) -> None:
        ones = np.ones(6)
        source = batch(
            [2, 2, 2], rews=ones, terminated=np.array([True, False, False]), truncated=np.array([False, True, False])
        )
        drawn = source.n_step(3, 0.5)[:]
        assert drawn.rews.tolist() == [1.5, 1.0] * 3
        assert drawn.discounts.tolist() == [0.0, 0.0, 0.25, 0.5, 0.25, 0.5]
        assert drawn.dones.tolist() == [True, True, True, True, False, False]
        assert np.array_equal(drawn.next_obs, np.repeat(source.obs[[2, 5, 8]], 2, axis=0))

    def test_one_step_is_a_transition(self, source: Any) -> None:
        drawn, steps = source.n_step(1, 0.9)[:], source.steps()[:]
        for name in ("obs", "acts", "rews", "next_obs", "dones", "terminated", "truncated"):
            assert_same(getattr(drawn, name), getattr(steps, name), name)

    def test_checked(self) -> None:
        fields = vars(batch().n_step(2, 0.9)[:3])
        assert NStepTransitions(**fields) == batch().n_step(2, 0.9)[:3]
        with pytest.raises(ShapeError, match="discounts"):
            NStepTransitions(**{**fields, "discounts": np.ones(2)})


class TestNormalization:
    @pytest.mark.parametrize("space", ["box", "image", "dict", "nested"])
    def test_is_that_of_all_rows(self, space: str, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, 40, 50).tolist()
        columns = {
            "obs": batch_of(SPACES[space], np.arange(sum(lengths) + 50) % 250),
            "rews": rng.normal(5, 2, sum(lengths)),
        }
        for source in (batch(lengths, **columns), written(tmp_path, batch(lengths, **columns))):
            found = source.normalization()
            data = TrajectoryBatch.from_trajectories(list(source))
            for ours, rows in ((found.obs, data.obs), (found.acts, data.acts), (found.rews, data.rews)):
                assert ours is not None
                assert ours.count == len(rows)
                for name in ("mean", "std", "min", "max"):
                    for leaf, of_leaf in zip(leaves_of(getattr(ours, name)), leaves_of(rows), strict=True):
                        expected = getattr(np, name)(of_leaf.astype(np.float64), axis=0)
                        np.testing.assert_allclose(leaf, expected, rtol=1e-10)

    def test_far_from_zero(self) -> None:
        rews = 1e9 + np.tile([0.0, 1.0], 5000)
        assert batch([10_000], rews=rews, obs=np.zeros(10_001)).normalization().rews.std == pytest.approx(0.5)  # type: ignore[union-attr]

    def test_none(self) -> None:
        with pytest.raises(ShapeError, match="normalization: expected at least one step"):
            batch()[:0].normalization()

    def test_texts_have_none(self) -> None:
        with pytest.raises(DtypeError, match="obs"):
            batch(obs=np.array(["a"] * (STEPS + len(LENGTHS)))).normalization()


class TestSomeTrajectories:
    """What views of data sets are made of."""

    def test_some_in_another_order(self, source: Any) -> None:
        chosen = Some(source.step_index.select([4, 0, 0]))
        expected = TrajectoryBatch.from_trajectories([source[4], source[0], source[0]])
        assert StepItems(chosen)[:] == expected.steps()[:]

    def test_some_steps_of_each(self, source: Any) -> None:
        chosen = Some(source.step_index.select([2, 4], [1, 0], [7, 4]))
        expected = TrajectoryBatch.from_trajectories([cut(source[2], 1, 7), cut(source[4], 0, 4)])
        assert StepItems(chosen)[:] == expected.steps()[:]
        assert WindowItems(chosen, 3)[:].timesteps.tolist() == expected.windows(3)[:].timesteps.tolist()
        assert NStepItems(chosen, 2, 0.5)[:].discounts.tolist() == expected.n_step(2, 0.5)[:].discounts.tolist()


@dataclass
class Some:
    step_index: StepIndex


class TestTraces:
    def test_a_trajectory_in_several_record_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vecrollout.storage.writing.shards.SPLIT_BYTES", 1000)
        lengths = [5, 300, 2, 400]
        obs = np.arange((sum(lengths) + 4) * 300, dtype=np.float32).reshape(-1, 300)
        traces = written(tmp_path, batch(lengths, obs=obs), compression="zstd")
        ours = batch(lengths, obs=obs)
        assert traces.steps(frame_stack=3)[:] == ours.steps(frame_stack=3)[:]
        assert_same(vars(traces.windows(20, 7)[:]), vars(ours.windows(20, 7)[:]))

    def test_several_writers(self, tmp_path: Path) -> None:
        traces = written(tmp_path, batch(), batch([4]))
        assert len(traces.steps()) == STEPS + 4
        expected = TrajectoryBatch.from_trajectories(list(traces))
        assert traces.steps()[:] == expected.steps()[:]

    def test_rewards_of_two_precisions(self, tmp_path: Path) -> None:
        traces = written(tmp_path, batch(), batch(rews=np.full(STEPS, 0.1)))
        assert 0.1 in traces.steps()[:].rews
        assert traces.steps()[:].rews.dtype == np.float64

    def test_writers_of_other_kinds(self, tmp_path: Path) -> None:
        with pytest.raises(StructureError, match="one structure"):
            written(tmp_path / "a", batch(), batch(acts=np.zeros((STEPS, 2)))).steps()
        with pytest.raises(ArgumentTypeError, match="rewards in all trajectories or in none"):
            written(tmp_path / "b", batch(), batch(rews=None)).steps()

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ShapeError, match="at least one trajectory"):
            open_traces(tmp_path).steps()

    @pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
    def test_damage_is_seen(self, tmp_path: Path, memory_bytes: int) -> None:
        written(tmp_path, batch([200]), compression=None)
        (shard,) = tmp_path.glob("*.arrow")
        content = bytearray(shard.read_bytes())
        at = content.find(np.arange(100, 110, dtype=np.float32).tobytes())
        content[at] ^= 1
        shard.write_bytes(content)
        with pytest.raises(DamagedTraceError, match="checksum"):
            open_traces(tmp_path, memory_bytes=memory_bytes).sample_transitions(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [
        (lambda s: s.sample_transitions(-1, np.random.default_rng(0)), OptionError, "n: expected at least 0"),
        (lambda s: s.sample_transitions(1.5, np.random.default_rng(0)), ArgumentTypeError, "n: expected an integer"),
        (lambda s: s.sample_transitions(1, 0), ArgumentTypeError, "default_rng"),
        (lambda s: s.sample_transitions(1, np.random), ArgumentTypeError, "default_rng"),
        (lambda s: s.steps(frame_stack=0), OptionError, "frame_stack"),
        (lambda s: s.windows(0), OptionError, "length"),
        (lambda s: s.windows(2, 0), OptionError, "stride"),
        (lambda s: s.windows(2, pad="left"), OptionError, "'before' or 'after'"),
        (lambda s: s.windows(2, returns_to_go=1.5), OptionError, "gamma"),
        (lambda s: s.n_step(0, 0.9), OptionError, "n: expected at least 1"),
        (lambda s: s.n_step(1, -0.1), OptionError, "gamma"),
        (lambda s: s.n_step(1, "0.9"), ArgumentTypeError, "gamma"),
        (lambda s: s.returns_to_go(float("nan")), OptionError, "gamma"),
    ],
)
def test_bad_arguments(source: Any, refused: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refused(source)


def test_memory_limit_is_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="memory_bytes"):
        open_traces(tmp_path, memory_bytes=-1)


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
import vecrollout as vr

traces = vr.open_traces(sys.argv[1], memory_bytes=16 << 20)
traces.sample_transitions(8, np.random.default_rng(0))
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + (100 << 20),) * 2)
rng = np.random.default_rng(0)
for _ in range(40):
    drawn = traces.sample_transitions(64, rng)
    assert (drawn.obs[:, 0, 0, 0] + 1 == drawn.next_obs[:, 0, 0, 0])[drawn.obs[:, 0, 0, 0] < 255].all()
    traces.sample_windows(8, 8, rng)
traces.normalization()
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory differ")
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_larger_than_memory(tmp_path: Path, compression: str | None) -> None:
    obs = np.zeros((501, 84, 84, 4), np.uint8)
    with TraceWriter(tmp_path, compression=compression) as writer:
        for _ in range(30):  # 420 MB
            obs[:, 0, 0, 0] = np.arange(501) % 256
            writer.append(TrajectoryWithRew(obs.copy(), np.arange(500), None, True, np.ones(500, np.float32)))
    subprocess.run([sys.executable, "-c", LARGER_THAN_MEMORY, str(tmp_path)], check=True)
