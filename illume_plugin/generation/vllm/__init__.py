"""Sampling on a vLLM server: nothing is computed here. Importing this package does not load torch."""

from illume_plugin.generation.vllm.client import Limits, VllmClient

__all__ = ["Limits", "VllmClient"]
