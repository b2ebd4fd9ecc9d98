"""Constraints that text cannot say (visited ones, caps), as counts by prefix; `inference` wraps them for an engine."""
