"""Small models of images and texts, clean or backdoored: for benchmarks, the examples and calibration only."""
