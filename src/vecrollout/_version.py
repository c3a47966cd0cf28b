"""The version, which every trace says, too."""

__version__ = "0.2.0"
