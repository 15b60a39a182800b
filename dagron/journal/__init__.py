"""Durable runs: everything that happened in a run, in one file, so that a killed run goes on.

It is imported on use: a program that keeps no journal pays nothing for it.
"""

from dagron.journal._journal import Journal
from dagron.journal._recorded_run import NotLoaded, RecordedRun

__all__ = ["Journal", "NotLoaded", "RecordedRun"]
