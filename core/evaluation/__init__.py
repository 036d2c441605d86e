"""Measuring a model: accuracy, attack success, robust accuracy, and how fast a backdoor comes back."""
