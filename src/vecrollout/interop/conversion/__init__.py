"""What all conversions have in common: what they take, and the report that they return."""

from vecrollout.interop.conversion.files import FileTrajectories
from vecrollout.interop.conversion.report import ConversionReport

__all__ = ["ConversionReport", "FileTrajectories"]
