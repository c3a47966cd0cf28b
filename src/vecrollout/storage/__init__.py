"""Trajectories as bytes on disk: Arrow IPC shards, their indexes and manifests; `docs/format.md` specifies them.

The only importer of pyarrow. It knows no environments: what it stores are trajectories.
"""
