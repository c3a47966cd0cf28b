"""Runs imitation's algorithms as its tutorials 1 to 5, 7 and 8 do, with small budgets.

    python imitation_algorithms.py SCRATCH_FOLDER          on imitation's own data modules
    python imitation_algorithms.py SCRATCH_FOLDER --swap   on ours, in their place

Prints a digest of what each algorithm has learned, as JSON. A script of its own, as modules can only be swapped before
imitation is imported.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import swap_imitation

if "--swap" in sys.argv:
    swap_imitation.swap()

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms import bc, dagger, density, preference_comparisons, sqil
from imitation.algorithms.adversarial import airl, gail
from imitation.data import huggingface_utils, rollout, serialize, types, wrappers
from imitation.policies.base import FeedForward32Policy
from imitation.rewards import reward_nets, reward_wrapper
from imitation.util import logger, networks, util
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecEnv

import datasets

ENVIRONMENTS = 4


class PositionAndVelocity(gym.ObservationWrapper):
    """CartPole's observation as a dict."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        halves = env.observation_space.low[::2], env.observation_space.high[::2]
        self.observation_space = gym.spaces.Dict({key: gym.spaces.Box(*halves) for key in ("position", "velocity")})

    def observation(self, observation: Any) -> dict[str, Any]:
        return {"position": observation[::2], "velocity": observation[1::2]}


class World:
    """One algorithm's start: everything random is seeded anew, so that no algorithm depends on those before it."""

    def __init__(self, scratch: Path, name: str = "CartPole-v1", *, wrap: Any = None) -> None:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002  # imitation and SB3 draw from the global state
        torch.manual_seed(0)
        self.rng = np.random.default_rng(0)
        self.scratch = scratch
        self.logger = logger.configure(scratch / "log", [])

        def wrapped(env: gym.Env, index: int) -> gym.Env:
            return wrappers.RolloutInfoWrapper(env if wrap is None else wrap(env))

        self.venv: VecEnv = util.make_vec_env(name, rng=self.rng, n_envs=ENVIRONMENTS, post_wrappers=[wrapped])
        self.venv.action_space.seed(0)
        self.spaces = {"observation_space": self.venv.observation_space, "action_space": self.venv.action_space}

    def demonstrations(self, policy: Any = None, episodes: int = 6) -> Any:
        return rollout.rollout(policy, self.venv, rollout.make_sample_until(min_episodes=episodes), rng=self.rng)

    def ppo(self, venv: Any = None) -> PPO:
        return PPO("MlpPolicy", venv or self.venv, n_steps=32, batch_size=32, n_epochs=2, device="cpu", seed=0)


def run_bc(world: World) -> list[Any]:
    trainer = bc.BC(
        **world.spaces,
        rng=world.rng,
        demonstrations=rollout.flatten_trajectories(world.demonstrations()),
        custom_logger=world.logger,
        device="cpu",
    )
    trainer.train(n_epochs=2, log_rollouts_venv=world.venv, log_rollouts_n_episodes=2, progress_bar=False)
    return [trainer.policy, np.array(evaluate_policy(trainer.policy, world.venv, 5))]


def run_bc_on_saved_trajectories_of_a_policy(world: World) -> list[Any]:
    expert = FeedForward32Policy(**world.spaces, lr_schedule=lambda _: 1e-3)
    serialize.save(world.scratch / "demonstrations", world.demonstrations(expert))
    trainer = bc.BC(
        **world.spaces,
        rng=world.rng,
        demonstrations=serialize.load_with_rewards(world.scratch / "demonstrations"),
        custom_logger=world.logger,
        device="cpu",
    )
    trainer.train(n_batches=20, progress_bar=False)
    return [trainer.policy]


def run_bc_on_dict_observations(world: World) -> list[Any]:
    # Not None: imitation counts a dict's keys where it draws random actions.
    def expert(obs: Any, state: Any, episode_starts: Any) -> Any:
        return (obs["velocity"].sum(axis=1) > 0).astype(int), None

    trainer = bc.BC(
        **world.spaces,
        rng=world.rng,
        policy=MultiInputActorCriticPolicy(**world.spaces, lr_schedule=lambda _: 1e-3),
        demonstrations=rollout.generate_transitions(expert, world.venv, n_timesteps=200, rng=world.rng),
        custom_logger=world.logger,
        device="cpu",
    )
    trainer.train(n_epochs=2, progress_bar=False)
    return [trainer.policy]


def run_dagger(world: World) -> list[Any]:
    trainer = dagger.SimpleDAggerTrainer(
        venv=world.venv,
        scratch_dir=world.scratch / "dagger",
        expert_policy=FeedForward32Policy(**world.spaces, lr_schedule=lambda _: 1e-3),
        expert_trajs=world.demonstrations(episodes=2),
        bc_trainer=bc.BC(**world.spaces, rng=world.rng, custom_logger=world.logger, device="cpu"),
        rng=world.rng,
        custom_logger=world.logger,
    )
    trainer.train(
        total_timesteps=200,
        rollout_round_min_episodes=4,
        rollout_round_min_timesteps=50,
        bc_train_kwargs={"n_epochs": 2, "progress_bar": False},
    )
    return [trainer.policy]


def run_gail(world: World) -> list[Any]:
    return adversarial(world, gail.GAIL, reward_nets.BasicRewardNet, world.demonstrations())


def run_airl(world: World) -> list[Any]:
    transitions = rollout.flatten_trajectories_with_rew(world.demonstrations())
    return adversarial(world, airl.AIRL, reward_nets.BasicShapedRewardNet, transitions)


def adversarial(world: World, algorithm: Any, net: Any, demonstrations: Any) -> list[Any]:
    reward_net = net(**world.spaces, normalize_input_layer=networks.RunningNorm)
    generator = world.ppo()
    trainer = algorithm(
        demonstrations=demonstrations,
        demo_batch_size=32,
        gen_replay_buffer_capacity=256,
        n_disc_updates_per_round=2,
        venv=world.venv,
        gen_algo=generator,
        reward_net=reward_net,
        allow_variable_horizon=True,
        log_dir=world.scratch / "adversarial",
        custom_logger=world.logger,
    )
    trainer.train(total_timesteps=512)
    return [generator.policy, reward_net]


def run_density(world: World) -> list[Any]:
    agent = world.ppo()
    trainer = density.DensityAlgorithm(
        demonstrations=world.demonstrations(),
        venv=world.venv,
        rl_algo=agent,
        rng=world.rng,
        allow_variable_horizon=True,
        custom_logger=world.logger,
    )
    trainer.train()
    trainer.train_policy(256)
    fitted = [np.asarray(model.tree_.data) for model in trainer._density_models.values()]
    stats = trainer.test_policy(n_trajectories=1) | trainer.test_policy(n_trajectories=1, true_reward=False)
    return [agent.policy, *fitted, np.array(list(stats.values()))]


def run_preference_comparisons(world: World) -> list[Any]:
    reward_net = reward_nets.BasicRewardNet(**world.spaces)
    agent = world.ppo()
    trainer = preference_comparisons.PreferenceComparisons(
        preference_comparisons.AgentTrainer(
            algorithm=agent,
            reward_fn=reward_net,
            venv=world.venv,
            exploration_frac=0.2,
            rng=world.rng,
            custom_logger=world.logger,
        ),
        reward_net,
        num_iterations=3,
        fragmenter=preference_comparisons.RandomFragmenter(warning_threshold=0, rng=world.rng),
        preference_gatherer=preference_comparisons.SyntheticGatherer(rng=world.rng),
        reward_trainer=preference_comparisons.BasicRewardTrainer(
            preference_model=preference_comparisons.PreferenceModel(reward_net),
            loss=preference_comparisons.CrossEntropyRewardLoss(),
            epochs=2,
            rng=world.rng,
        ),
        fragment_length=5,
        transition_oversampling=1,
        initial_comparison_frac=0.2,
        allow_variable_horizon=True,
        custom_logger=world.logger,
    )
    trainer.train(total_timesteps=800, total_comparisons=30)
    learner = world.ppo(reward_wrapper.RewardVecEnvWrapper(world.venv, reward_net.predict_processed))
    learner.learn(128)
    return [agent.policy, reward_net, learner.policy]


def run_sqil(world: World) -> list[Any]:
    serialize.save(world.scratch / "demonstrations", world.demonstrations())
    dataset = datasets.load_from_disk(str(world.scratch / "demonstrations"))
    demonstrations = huggingface_utils.TrajectoryDatasetSequence(dataset)
    trainer = sqil.SQIL(
        venv=world.venv,
        demonstrations=demonstrations,
        policy="MlpPolicy",
        rl_algo_class=DQN,
        rl_kwargs={"learning_starts": 40, "device": "cpu", "seed": 0},
        custom_logger=world.logger,
    )
    experts = trainer.rl_algo.replay_buffer.expert_buffer
    # imitation's SQIL cannot train with the later versions of SB3 that sample discounts too.
    if "discounts" not in ReplayBufferSamples._fields:
        trainer.train(total_timesteps=200)
    stats = rollout.rollout_stats(demonstrations)
    return [trainer.policy, experts.observations, experts.actions, experts.dones, np.array(list(stats.values()))]


# Where not CartPole with an array as observation. Preferences need rewards that differ from step to step.
WORLDS = {
    "bc_on_dict_observations": {"wrap": PositionAndVelocity},
    "airl": {"name": "Pendulum-v1"},
    "preference_comparisons": {"name": "Pendulum-v1"},
}


def digest(learned: list[Any]) -> str:
    """SHA-256 over the bytes of every parameter, with its name, dtype and shape."""
    checksum = hashlib.sha256()
    for each in learned:
        tensors = {"": torch.as_tensor(each)} if isinstance(each, np.ndarray) else each.state_dict()
        for name, tensor in tensors.items():
            array = tensor.detach().numpy()
            checksum.update(f"{name} {array.dtype} {array.shape}".encode())
            checksum.update(array.tobytes())
    return checksum.hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    scratch = Path(sys.argv[1])
    digests = {}
    for name, run in list(globals().items()):
        if name.startswith("run_"):
            name = name.removeprefix("run_")
            folder = scratch / name
            folder.mkdir()
            digests[name] = digest(run(World(folder, **WORLDS.get(name, {}))))
    originals = swap_imitation.originals_loaded()
    print(json.dumps({"types": types.__file__, "originals": originals, "digests": digests}))


if __name__ == "__main__":
    main()
