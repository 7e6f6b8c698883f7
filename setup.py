"""Maps the two outer folders into the package; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    packages=[
        "dg_batchformer",
        "dg_batchformer.algorithms",
        "dg_batchformer.algorithms.adapter",
        "dg_batchformer.charts",
        "dg_batchformer.data",
        "dg_batchformer.domainbed",
        "dg_batchformer.jobs",
        "dg_batchformer.jobs.launchers",
        "dg_batchformer.runs",
        "dg_batchformer.selection",
        "dg_batchformer.selection.formats",
        "dg_batchformer.sweeps",
        "dg_batchformer.training",
    ],
    package_dir={
        "dg_batchformer": "dg_batchformer",
        "dg_batchformer.algorithms": "algorithms",
        "dg_batchformer.sweeps": "sweeps",
    },
    package_data={"dg_batchformer": ["py.typed", "paper_long_tails.csv", "paper_tables.csv", "page/*"]},
)
