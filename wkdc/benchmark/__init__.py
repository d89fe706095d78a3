"""Latency, timed fairly, and what is timed."""
