"""Data sets for Hugging Face's `datasets` and its hub, and Parquet files, written and read without `datasets`.

A file has a row a step, and one more for each last observation, in which actions, rewards and flags are null. Its
columns are `episode`, `step` (the step in the episode), `obs`, `acts`, `rews`, `terminated` and `truncated`; the arrays
of dicts and tuples have names such as `obs/camera` and `obs/_index_0`.
"""

from vecrollout.interop.huggingface.hub import push_to_hub
from vecrollout.interop.huggingface.reading import from_hf
from vecrollout.interop.huggingface.writing import to_hf, to_parquet

__all__ = ["from_hf", "push_to_hub", "to_hf", "to_parquet"]
