"""Experiments: versions of one message compared once, at a size that was planned."""
