"""Tests against a real Label Studio and a real browser."""
