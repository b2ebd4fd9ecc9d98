"""Benchmarks, baselines on one protocol, ablations, and the report of a run."""

PROJECT = "collm-nas"
"""Tells these packages from other distributions' packages of the same common name."""
