"""The commands, by what they work on: training, results, data, models."""
