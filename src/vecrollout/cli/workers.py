"""`vecrollout record --ray-workers`: processes of a Ray cluster record, each in environments of its own."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vecrollout.cli.acting import Actor
from vecrollout.cli.environments import seed_column
from vecrollout.cli.models import module_of_file
from vecrollout.cli.plan import Plan, Recorded
from vecrollout.cli.terminal import busy
from vecrollout.collecting.policy import PolicyCallable
from vecrollout.distributed import Collector, PolicyHandle
from vecrollout.distributed.policies import packed, pickled, send_code_of, unpacked, unpickled
from vecrollout.storage.dataset import TraceDataset


def recorded_by_workers(plan: Plan, count: int) -> Recorded:
    """Record by a number of workers."""
    actor = Actor.load(plan.acting, plan.recipe)
    plan.recipe.one().close()
    # What does not fit is found before workers start.
    env = plan.recipe.many(1, plan.seed)
    try:
        actor.before(env, plan.seed)
    finally:
        env.close()
    handle = _handle(actor, plan.acting.policy)
    with busy(f"Starting {count} workers"):
        collector = Collector(
            partial(plan.recipe.many, plan.n_envs, plan.seed),
            plan.out,
            num_workers=count,
            seed=plan.seed,
            progress=True,
            metadata=plan.metadata,
            episode_metadata=seed_column,
            env_spec=plan.recipe.spec_json,
            overwrite=plan.overwrite,
        )
    began, interrupted = time.monotonic(), False
    try:
        collector.collect(handle, steps=plan.steps, episodes=plan.episodes, close=True)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        elapsed_s = time.monotonic() - began
        collector.close()
    return _recorded(collector, elapsed_s, interrupted)


def _handle(actor: Actor, named: str) -> PolicyHandle:
    """The policy, with everything that it needs on another machine."""
    place = named.rpartition(":")[0]
    if place.endswith(".py"):
        send_code_of(sys.modules[module_of_file(place)])
    statistics = None if actor.statistics is None else actor.statistics.read_bytes()
    policy = pickled(packed(actor.policy), "policy", "create what cannot be pickled in the function")
    sent = replace(actor, policy=policy, statistics=None)
    handle = PolicyHandle(partial(_built, sent, statistics), _load_nothing)
    handle.publish(None)
    return handle


def _built(actor: Actor, statistics: bytes | None, env: Any) -> PolicyCallable:
    """The policy in a worker."""
    with tempfile.TemporaryDirectory() as folder:
        file = None
        if statistics is not None:
            file = Path(folder, "vecnormalize.pkl")
            file.write_bytes(statistics)
        whole = replace(actor, policy=unpacked(unpickled(actor.policy)), statistics=file)
        # The worker has seeded torch by its own seed.
        see, act = whole.before(env, torch.initial_seed())
    return lambda obs, states, starts: act(see(obs), states, starts)


def _load_nothing(policy: Any, weights: None) -> None:
    """There is one version only."""


def _recorded(collector: Collector, elapsed_s: float, interrupted: bool) -> Recorded:
    traces: TraceDataset = collector.written()
    episodes = traces.whole_episodes().to_arrow()
    endings = Counter(traces.to_arrow().column("ended_by").to_pylist())
    endings.pop(None, None)
    return Recorded(
        collector.directory,
        lengths=episodes.column("length").to_pylist(),
        returns=[each for each in episodes.column("return_").to_pylist() if each is not None],
        endings=endings,
        steps=traces.total_steps,
        steps_per_s=traces.total_steps / max(elapsed_s, 1e-9),
        interrupted=interrupted,
    )
