"""ILLUME for Label Studio as a library: everything but HTTP, processes and configuration."""

__version__ = "0.1.0"
