"""`python -m dg_batchformer`."""

from dg_batchformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
