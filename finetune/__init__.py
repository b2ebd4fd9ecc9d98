"""Stage 2: a base model and a data set become LoRA adapters, one for each role."""

PROJECT = "collm-nas"
"""Tells these packages from other distributions' packages of the same common name."""
