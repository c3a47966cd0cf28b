"""A trace as one page of HTML that opens offline, and the numbers on it."""

from vecrollout.report.writing import write_report

__all__ = ["write_report"]
