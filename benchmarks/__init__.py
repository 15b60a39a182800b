"""Measures dagron against schedulers written by hand; `python benchmarks/run.py` is the command."""
