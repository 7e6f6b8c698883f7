"""PACS: DomainBed's search, 20 draws of hyper-parameters in 3 trials, for the twelve algorithms.

python -m dg_batchformer.sweeps.pacs --data_dir DATA, and any flag of `sweep launch`.
"""

from dg_batchformer.sweeps import script

main = script("PACS")

if __name__ == "__main__":
    raise SystemExit(main(None))
