"""The objectives ERM, CORAL, IRM and VREx, and the modifiers MixStyle, BatchFormer and SWAD.

The import of this folder imports all its files: a new file registers its objective.
"""

import importlib
import pkgutil

from .batchformer import with_batchformer
from .coral import CORAL
from .erm import ERM
from .irm import IRM
from .mixstyle import with_mixstyle
from .swad import with_swad
from .vrex import VREx

__all__ = ["CORAL", "ERM", "IRM", "VREx", "with_batchformer", "with_mixstyle", "with_swad"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
