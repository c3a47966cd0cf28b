"""The progress bar, under the name by which conversions import it."""

from vecrollout.progress import Progress, Show, progress_bar

__all__ = ["Progress", "Show", "progress_bar"]
