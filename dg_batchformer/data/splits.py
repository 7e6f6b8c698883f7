"""The splits of environments: random ones, those of a dataset, and files that others can use again.

A file of splits has a row for each sample: its environment, its path below the folder of images (its number, for data
without files), and its split, `in` or `out`.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dg_batchformer.data.environments import Dataset, Split
from dg_batchformer.data.lists import listed
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash

COLUMNS = ("env", "sample", "split")
PARTS = ("in", "out")


def split_environments(sizes: Sequence[int], holdout_fraction: float, trial_seed: int) -> list[Split]:
    """The split of each environment, from the sizes; both parts must have an image."""
    splits = []
    for i, size in enumerate(sizes):
        out, inside = split_indices(size, int(size * holdout_fraction), seed_hash(trial_seed, i))
        splits.append(_checked(i, inside, out, holdout_fraction))
    return splits


def given_splits(splits: Sequence[Split], test_envs: Sequence[int]) -> list[Split]:
    """The splits of a dataset that has its own; one test environment or more changes their use.

    The in-split of a left-out environment is its test split; the test splits of the others are not used then.
    """
    if not test_envs:
        return list(splits)
    return [
        Split(own.test if i in test_envs and own.test is not None else own.inside, own.out)
        for i, own in enumerate(splits)
    ]


def split_with_one_seed(
    sizes: Sequence[int], holdout_fraction: float, trial_seed: int, test_envs: Sequence[int]
) -> list[Split]:
    """Transfer-Learning-Library's splits: one seed for all environments, the in-split drawn first.

    The in-split of a test environment is all of it.
    """
    splits = []
    for i, size in enumerate(sizes):
        inside, out = split_indices(size, int(size * (1 - holdout_fraction)), trial_seed)
        splits.append(_checked(i, list(range(size)) if i in test_envs else inside, out, holdout_fraction))
    return splits


def split_indices(n: int, n_first: int, seed: int) -> tuple[list[int], list[int]]:
    """Random split of range(n) into `n_first` indices and the rest."""
    # A list, as in DomainBed: NumPy promises one stream of draws for a list, another for an array.
    keys = list(range(n))
    np.random.RandomState(seed).shuffle(keys)
    return keys[:n_first], keys[n_first:]


def _checked(i: int, inside: list[int], out: list[int], holdout_fraction: float) -> Split:
    if not out or not inside:
        raise InputError(
            f"holdout_fraction {holdout_fraction} leaves environment {i} with {len(inside)} images to train on "
            f"and {len(out)} held out: expected at least one each"
        )
    return Split(torch.tensor(inside), torch.tensor(out))


def text_of(splits: Sequence[Split], dataset: Dataset) -> str:
    """The text of a file of splits, in their order; samples of neither, as under a long tail, are missing in it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for i, environment in enumerate(dataset.environments):
        names = dataset.sample_names(i)
        for split, indices in zip(PARTS, (splits[i].inside, splits[i].out), strict=True):
            table.writerows((environment.name, names[index], split) for index in indices.tolist())
    return text.getvalue()


def read(file: Path, dataset: Dataset) -> list[Split]:
    """The splits in a file, in its order; samples that are missing in it are in neither.

    An InputError lists the samples that the dataset does not have, and invalid rows.
    """
    places = {
        (environment.name, name): (i, index)
        for i, environment in enumerate(dataset.environments)
        for index, name in enumerate(dataset.sample_names(i))
    }
    parts: list[dict[str, list[int]]] = [{name: [] for name in PARTS} for _ in dataset.environments]
    found: dict[str, list[str]] = {}
    for line, (env, sample, split) in enumerate(rows_of(file), start=2):
        place = places.pop((env, sample), None)
        if place is None:
            found.setdefault("unknown or repeated samples", []).append(f"line {line} has {env} {sample}")
        elif split not in PARTS:
            found.setdefault("invalid splits (expected in or out)", []).append(f"line {line} has {split!r}")
        else:
            parts[place[0]][split].append(place[1])
    problems = [f"{file}: {len(own)} {what}: {listed(own)}" for what, own in found.items()]
    problems += [
        f"{file} has no sample of environment {environment.name} with split {name}: expected at least one"
        for environment, part in zip(dataset.environments, parts, strict=True)
        for name, own in part.items()
        if not own and not found
    ]
    if problems:
        raise InputError("\n".join(problems))
    return [Split(*(torch.tensor(part[name]) for name in PARTS)) for part in parts]


def rows_of(file: Path) -> list[tuple[str, str, str]]:
    """The rows of a file of splits; InputError if it is none."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            table = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--splits {file} cannot be read as a CSV file ({error})") from error
    if not table or tuple(table[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in table):
        raise InputError(f"--splits {file} is not a file of splits: expected columns {','.join(COLUMNS)}")
    return [(env, sample, split) for env, sample, split in table[1:]]
