"""Benchmarks, their images, their splits and their minibatches."""
