"""Stage 1: trajectories of searches, mined from landscapes, tables and runs, written as Parquet."""

PROJECT = "collm-nas"
"""Tells these packages from other distributions' packages of the same common name."""
