"""Write and read Minari data sets, without Minari.

A data set is a directory with `data/main_data.hdf5`, a group for each episode, and `data/metadata.json`, which has the
spaces and the environment. Minari's other storages, Arrow and Parquet, cut off episodes of more than 32,767 steps; this
module neither writes nor reads them.
"""

from vecrollout.interop.minari.reading import from_minari
from vecrollout.interop.minari.writing import to_minari

__all__ = ["from_minari", "to_minari"]
