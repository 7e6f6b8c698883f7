"""Spawrious (Lynch et al., 2023, https://arxiv.org/abs/2303.05470): dogs whose breed goes with a place.

In training each breed is mostly seen in one place (one-to-one, O2O) or in two (many-to-many, M2M), in the test
environment in others. The combinations are DomainBed's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dg_batchformer.data.folders import Benchmark, Folder, Source, Tree, data_folder
from dg_batchformer.errors import InputError

ENVIRONMENTS = ("Test", "SC_group_1", "SC_group_2")
CLASSES = ("bulldog", "corgi", "dachshund", "labrador")
ORDER = ("bulldog", "dachshund", "labrador", "corgi")
"""The breeds in the order of the places below."""

N_IMAGES = 3168
"""Images of a breed in a place."""

N_USUAL = (3072, 2756)
"""How many of them are in the usual place of a breed, in the two groups of O2O; the rest is in the filler's."""

EXTENSIONS = (".png", ".jpg", ".jpeg")


class Places(NamedTuple):
    """The places of the breeds in training and in test; O2O has a filler, in which all breeds are seen too."""

    training: tuple[str, str, str, str]
    test: tuple[str, str, str, str]
    filler: str = ""


PLACES = {
    "O2O_easy": Places(("desert", "jungle", "dirt", "snow"), ("dirt", "snow", "desert", "jungle"), "beach"),
    "O2O_medium": Places(("mountain", "beach", "dirt", "jungle"), ("jungle", "dirt", "beach", "snow"), "desert"),
    "O2O_hard": Places(("jungle", "mountain", "snow", "desert"), ("mountain", "snow", "desert", "jungle"), "beach"),
    "M2M_easy": Places(("desert", "mountain", "dirt", "jungle"), ("dirt", "jungle", "mountain", "desert")),
    "M2M_medium": Places(("beach", "snow", "mountain", "desert"), ("desert", "mountain", "beach", "snow")),
    "M2M_hard": Places(("dirt", "jungle", "snow", "beach"), ("snow", "beach", "dirt", "jungle")),
}


class Part(NamedTuple):
    """The first images of a breed in a place, in one of the two sets of images, "0" and "1"."""

    folder: str
    place: str
    breed: str
    limit: int | None = None

    def below(self, root: Path) -> Path:
        """The folder of all its images."""
        return root / self.folder / self.place / self.breed


def parts(places: Places, environment: str) -> Iterator[Part]:
    """The images of an environment."""
    if environment == "Test":
        for group in (0, 1):
            yield from group_of(places, places.test, group, None)
    else:
        group = ENVIRONMENTS.index(environment) - 1
        limit = N_USUAL[group] if places.filler else N_IMAGES
        yield from group_of(places, places.training, group, limit)
        if places.filler:
            yield from (Part(str(group), places.filler, breed, N_IMAGES - limit) for breed in ORDER)


def group_of(places: Places, of_breeds: tuple[str, ...], group: int, limit: int | None) -> Iterator[Part]:
    """The parts of one of two groups: with a filler each breed keeps its place, else two breeds swap theirs."""
    for i, breed in enumerate(ORDER):
        # The first and second place belong to the first two breeds, the others to the last two.
        yield (
            Part(str(group), of_breeds[i], breed, limit)
            if places.filler
            else Part("0", of_breeds[i ^ group], breed, limit)
        )


def tree(benchmark: Benchmark, source: Source) -> Tree:
    """The images of a benchmark in `data_dir`, in `0/<place>/<breed>/` and, for O2O, `1/<place>/<breed>/`.

    Of a limited part the first by name are taken; DomainBed takes them in the order of the file system.
    """
    root = data_folder(benchmark, source.data_dir, "that contains 0/desert/bulldog/ ...")
    places = PLACES[benchmark.name.removeprefix("Spawrious")]
    by_environment = {name: list(parts(places, name)) for name in benchmark.environments}
    wanted = dict.fromkeys(one.below(root) for own in by_environment.values() for one in own)
    missing = [str(path) for path in wanted if not path.is_dir()]
    if missing:
        raise InputError("\n".join(f"{path} is not a folder: expected images of {benchmark.name}" for path in missing))
    folders = []
    for name, own in by_environment.items():
        files = [(path, one.breed) for one in own for path in files_of(one.below(root), one.limit)]
        folders.append(Folder(name, [path for path, _ in files], [CLASSES.index(breed) for _, breed in files]))
    return Tree(root, folders, list(CLASSES), [])


def files_of(folder: Path, limit: int | None) -> list[Path]:
    """The first images of a folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in EXTENSIONS)[:limit]
