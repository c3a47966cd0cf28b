"""Memory: reserved for large rows, but only where the system has it, and freed with the trajectories that need it."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from checks import assert_recorded, run
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from vecrollout import BufferingWrapper
from vecrollout.buffer import Ending, RecordOptions, RolloutBuffer
from vecrollout.testing import EpisodeScript, Scenario, leaves_of

IMAGES = spaces.Box(0, 255, (64, 64, 3), np.uint8)

LITTLE_MEMORY = """
import resource
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from vecrollout import BufferingWrapper
from vecrollout.testing import EpisodeScript, Scenario

scenario = Scenario(space=spaces.Box(0, 255, (64, 64, 3), np.uint8), episodes=[[EpisodeScript(50)]] * 2)
venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
venv.reset()
for call in range(300):
    venv.step(scenario.actions(call))
trajectories = venv.pop_trajectories()[0]
for trajectory, recorded in zip(trajectories, scenario.recorded(0, 300), strict=True):
    recorded.assert_recorded_as(trajectory, reward_dtype=np.float32, sees_both=False)
print(len(trajectories))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the process's memory by Linux's means")
def test_a_system_with_little_memory():
    """Where what would be reserved for large observations is not there, less will do."""
    command = [sys.executable, "-W", "error", "-c", LITTLE_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "12", result.stderr


def recorder(scenario, **options):
    venv = BufferingWrapper(DummyVecEnv(scenario.env_fns()), **options)
    venv.reset()
    return venv


def test_lanes_are_written_again():
    """Where the trajectories of large rows are gone, others take their place."""
    scenario = Scenario(space=IMAGES, episodes=[[EpisodeScript(10)]] * 2)
    venv = recorder(scenario, max_transitions=40)
    tracemalloc.start()
    try:
        memory = []
        for start in range(0, 400, 20):
            run(venv, scenario, start, start + 20)
            assert len(venv.pop_transitions()) == 40
            memory.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(memory[10:]) < 1.1 * max(memory[:10])


def test_trajectories_of_large_rows_are_views():
    """Popping copies none of their observations, and later steps change none."""
    scenario = Scenario(space=IMAGES, episodes=[[EpisodeScript(10)]] * 2)
    venv = recorder(scenario)
    run(venv, scenario, 0, 5)
    first = venv.pop_trajectories()[0]
    run(venv, scenario, 5, 40)
    second = venv.pop_trajectories()[0]
    assert not any(each.obs.flags.owndata or each.obs.flags.writeable for each in (*first, *second))
    assert np.shares_memory(first[0].obs[-1], second[0].obs[0])
    assert_recorded(first, scenario.recorded(0, 5))
    assert_recorded(second, scenario.recorded(5, 40))


def test_trajectories_of_small_rows_keep_no_other_memory():
    """In each of their columns."""
    scenario = Scenario(space="dict")
    venv = recorder(scenario)
    run(venv, scenario, 0, 13)
    trajectories = venv.pop_trajectories()[0]
    assert len(trajectories) > 3
    for each in trajectories:
        for array in (*leaves_of(each.obs), each.acts, each.rews):
            memory = array if array.base is None else array.base
            assert memory.flags.owndata
            assert memory.nbytes == array.nbytes
            assert not array.flags.writeable


@pytest.mark.parametrize("keeps", ["obs", "acts", "rews", "infos", "a row", "all of it"])
def test_a_trajectory_that_is_kept_keeps_no_others(keeps):
    """Here it is one in thousands, popped or taken by a sink."""
    pick = {
        "obs": lambda each: each.obs,
        "acts": lambda each: each.acts,
        "rews": lambda each: each.rews,
        "infos": lambda each: each.infos,
        "a row": lambda each: each.obs[1],
        "all of it": lambda each: each,
    }[keeps]
    acts, rews, infos = np.zeros((8, 16)), np.zeros(8), [{}] * 8
    obs = [np.full((8, 100), float(step)) for step in range(7)]
    for has_sink in (False, True):
        sink = []
        buffer = RolloutBuffer(8, RecordOptions(sink=sink if has_sink else None))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            buffer.reset(obs[0])
            kept = []
            for _ in range(5):
                for step in range(600):
                    buffer.act(acts)
                    ends = (
                        [Ending(env, True, False, obs[step % 6 + 1][env]) for env in range(8)] if step % 6 == 5 else ()
                    )
                    buffer.step(obs[(step + 1) % 6], rews, infos, ends)
                popped = [*sink] if has_sink else buffer.pop_finished_trajectories()[0]
                sink.clear()
                assert len(popped) == 800
                kept.append(pick(popped[400]))
                del popped
            del buffer
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert used < 2_000_000  # 15 MB were recorded
        assert len(kept) == 5


def test_a_batch_that_waits_keeps_only_its_own_part_of_the_log():
    """A sink that gathers batches later keeps the steps around them, and frees these with the batches."""

    class Late:
        def __init__(self):
            self.batches = []

        def append(self, trajectory):
            raise AssertionError("the sink has extend")

        def extend(self, batch):
            self.batches.append(batch)

    sink, acts, rews, infos = Late(), np.zeros(8), np.zeros(8), [{}] * 8
    obs = np.zeros((8, 100))
    buffer = RolloutBuffer(8, RecordOptions(sink=sink))
    tracemalloc.start()
    try:
        buffer.reset(obs)
        for step in range(6000):
            buffer.act(acts)
            buffer.step(
                obs, rews, infos, [Ending(env, True, False, obs[0]) for env in range(8)] if step % 6 == 5 else ()
            )
            sink.batches = sink.batches[-3:]
        assert tracemalloc.get_traced_memory()[0] < 8_000_000  # 38 MB were recorded
    finally:
        tracemalloc.stop()
    assert [len(each) for batch in sink.batches for each in batch] == [6] * 24
