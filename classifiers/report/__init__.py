"""The report of an evaluation: one page that needs no network, and its tables as files."""

from classifiers.report.files import write_report

__all__ = ["write_report"]
