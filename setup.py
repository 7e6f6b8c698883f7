"""Maps the two outer folders into the package; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {
    "dg_batchformer": "dg_batchformer",
    "dg_batchformer.algorithms": "algorithms",
    "dg_batchformer.sweeps": "sweeps",
}

setup(
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{inner}" for inner in find_packages(folder)))
    ],
    package_dir=FOLDERS,
    package_data={
        "dg_batchformer": ["py.typed", "paper_long_tails.csv", "paper_tables.csv", "page/*", "data/links.csv"]
    },
)
