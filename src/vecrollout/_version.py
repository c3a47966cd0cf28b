"""The version, which every trace says, too."""

__version__ = "0.1.0.dev0"
