"""The DomainBed plug-in: MixStyle, BatchFormer and SWAD for all of its algorithms, in its own scripts.

`python -m dg_batchformer.domainbed train|sweep|collect ...` runs DomainBed's script of that name, with its flags, after
`register()`; the jobs that its sweep launches do the same. DomainBed's checkout has to be on PYTHONPATH.
"""

from .registration import register

__all__ = ["register"]
