"""Lets modifiers attach to the update of an algorithm that they have never seen; docs/adapter.md explains how."""
