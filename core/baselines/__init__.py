"""Published defences, written from their papers, under the same conditions as the engine: for benchmarks only."""
