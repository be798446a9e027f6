"""Faults injected into a real cluster: the campaign of `make faults`, and its parts for tests."""
