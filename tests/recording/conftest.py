"""Settings of these tests."""

import multiprocessing

# `SubprocVecEnv` starts its processes by a server that forks; what the server has loaded, they need not.
multiprocessing.set_forkserver_preload(["stable_baselines3.common.vec_env", "vecrollout.testing"])
