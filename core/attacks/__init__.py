"""Planting backdoors: for benchmarks, the examples and self-tests only. The pipeline never imports this."""
