"""The fault harness: kills anything, anywhere, and compares what is left with Label Studio's own export."""
