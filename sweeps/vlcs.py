"""VLCS: DomainBed's search, 20 draws of hyper-parameters in 3 trials, for the twelve algorithms.

python -m dg_batchformer.sweeps.vlcs --data_dir DATA
"""

from __future__ import annotations

from collections.abc import Sequence

from dg_batchformer.sweeps import launch_and_collect


def main(argv: Sequence[str] | None = None) -> int:
    """Any flag of `sweep launch` may be given."""
    return launch_and_collect("VLCS", argv)


if __name__ == "__main__":
    raise SystemExit(main())
