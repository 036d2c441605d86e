"""Removing a backdoor that was inverted, under a utility budget."""
