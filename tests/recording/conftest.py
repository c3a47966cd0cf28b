"""Settings of these tests."""

import multiprocessing
import os

# Threads of torch that wait for one another on a busy machine take minutes for what one does in a second.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `SubprocVecEnv` starts its processes by a server that forks; what the server has loaded, they need not.
multiprocessing.set_forkserver_preload(["stable_baselines3.common.vec_env", "vecrollout.testing"])
