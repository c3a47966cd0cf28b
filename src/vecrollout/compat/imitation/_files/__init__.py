"""imitation's files, read without running code. No module here is public."""

__all__: list[str] = []
