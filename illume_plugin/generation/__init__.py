"""Sampling candidate rationales. Importing this package does not load torch; `.engine` does."""

from illume_plugin.generation.generator import Generator, SampleRequest
from illume_plugin.generation.plan import SamplingPlan

__all__ = ["Generator", "SampleRequest", "SamplingPlan"]
