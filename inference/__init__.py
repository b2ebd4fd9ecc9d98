"""Runs the Navigator and the Generator: engines (one base, an adapter a role), grammar backends, the sampler.

An engine is loaded by `inference.engines.load(name, model)` and is an `api.Engine`; nothing here touches a network.
"""

PROJECT = "collm-nas"
