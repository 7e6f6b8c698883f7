"""Sweeps: which runs, who runs them, how far they are."""
