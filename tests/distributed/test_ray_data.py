"""Ray Data on a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.compute as pc
import pytest
from ray.data.expressions import col

from vecrollout import BufferingEnvWrapper, TraceDataset, TraceWriter, TrajectoryBatch, open_traces
from vecrollout.distributed import from_ray, to_ray
from vecrollout.errors import OptionError

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    # Ray's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Nested(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (3, 2, 1), np.uint8), pose=gym.spaces.Box(-1, 1, (2,), np.float32)
    )
    action_space = gym.spaces.Discrete(3)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        self.left = int(self.np_random.integers(1, 9))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return self.observation_space.sample(), float(action), self.left == 0, False, {"left": self.left}


@pytest.fixture
def traces(tmp_path: Path) -> TraceDataset:
    with TraceWriter(tmp_path / "traces", episode_metadata=lambda each: {"steps": len(each)}) as writer:
        env = BufferingEnvWrapper(Nested(), sink=writer)
        env.action_space.seed(0)
        for seed in range(40):
            env.reset(seed=seed)
            while not env.step(env.action_space.sample())[2]:
                pass
    return open_traces(tmp_path / "traces")


def test_there_and_back(traces: TraceDataset, tmp_path: Path) -> None:
    data = to_ray(traces, parallelism=3)
    assert data.count() == len(traces) == 40
    back = from_ray(data, tmp_path / "back")
    by_id = {each.episode.id: each for each in back}
    assert len(by_id) == len(back) == 40
    for number, each in enumerate(traces):
        other = by_id[each.episode.id]
        assert other == each
        assert other.obs["image"].dtype == np.uint8
        assert (other.episode.seed, other.episode.recording) == (each.episode.seed, each.episode.recording)
        assert traces.metadata_of(number) == {"steps": len(each)}
    assert sorted(back.to_arrow().column("steps").to_pylist()) == sorted(traces.lengths.tolist())


def test_overwriting(traces: TraceDataset, tmp_path: Path) -> None:
    """A wrong option removes nothing."""
    before = list(from_ray(to_ray(traces[:3]), tmp_path / "back"))
    with pytest.raises(OptionError, match="compression"):
        from_ray(to_ray(traces), tmp_path / "back", overwrite=True, compression="gzip")
    assert list(open_traces(tmp_path / "back")) == before
    back = from_ray(to_ray(traces, parallelism=3), tmp_path / "back", overwrite=True)
    assert sorted(each.episode.id for each in back) == list(range(40))


def test_filter_and_compute(traces: TraceDataset, tmp_path: Path) -> None:
    def add(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "discounted": float((row["rews"] * 0.5 ** np.arange(len(row["rews"]))).sum())}

    data = to_ray(traces).filter(expr=col("length") > 3).map(add)
    back = from_ray(data, tmp_path / "back")
    assert len(back) == int((traces.lengths > 3).sum())
    for number, each in enumerate(back):
        expected = sum(rew * 0.5**step for step, rew in enumerate(each.rews.tolist()))  # type: ignore[attr-defined]
        assert back.metadata_of(number)["discounted"] == pytest.approx(expected)
    assert len(back.filter(pc.field("discounted") > 1)) < len(back)


def test_some_fields(traces: TraceDataset) -> None:
    data = to_ray(traces, fields=["rews"])
    row = data.take(1)[0]
    assert not [name for name in row if name.startswith(("obs", "acts", "infos"))]
    returns = [float(row["rews"].sum()) for row in data.take_all()]
    assert sorted(returns) == sorted(traces.to_arrow().column("return_").to_pylist())


def test_a_view(traces: TraceDataset) -> None:
    view = traces.filter(pc.field("length") == 2)
    assert 0 < to_ray(view).count() == len(view) < len(traces)


def test_rows_are_whole_trajectories(tmp_path: Path) -> None:
    """Also where one trajectory is larger than Ray's blocks."""
    obs = np.arange(300_001.0)
    with TraceWriter(tmp_path) as writer:
        writer.extend(TrajectoryBatch.from_arrays(obs, obs[:-2], lengths=[299_998, 1]))
    lengths = [len(row["acts"]) for row in to_ray(open_traces(tmp_path)).take_all()]
    assert sorted(lengths) == [1, 299_998]


def test_overwriting_that_fails_keeps_what_is_there(traces: TraceDataset, tmp_path: Path) -> None:
    """Also a mistake that only shows in a row."""
    from_ray(to_ray(traces), tmp_path / "back")
    with pytest.raises(Exception, match="expected the columns obs and acts"):
        from_ray(to_ray(traces, fields=["rews"]), tmp_path / "back", overwrite=True)
    assert len(open_traces(tmp_path / "back")) == 40


def test_an_unknown_field(traces: TraceDataset) -> None:
    with pytest.raises(OptionError, match="fields: expected some of"):
        to_ray(traces, fields=["observations"])
