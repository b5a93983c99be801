"""Report: one HTML file that shows a run; no network, opens from disk."""

from curate.report.page import write_report

__all__ = ["write_report"]
