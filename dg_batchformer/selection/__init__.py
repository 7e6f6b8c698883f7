"""From records to the selection table."""
