"""Benchmarks from archives or links, put into the folders that they are read from."""

from __future__ import annotations

import csv
import gzip
import hashlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from dg_batchformer.data.folders import EXTENSIONS, Benchmark, plain_name
from dg_batchformer.data.mnist import FOLDER as MNIST_FOLDER
from dg_batchformer.errors import InputError, Problems, first_line

LINKS = Path(__file__).with_name("links.csv")
"""The published links, a row for each archive, with its MD5 if it is known; any of them may be dead."""

DOWNLOADS = ".dg-batchformer-downloads"
"""The folder of downloaded archives, below the data folder."""

MNIST = ("RotatedMNIST", "ColoredMNIST")
CHUNK, SECONDS = 1 << 20, 60
INNER = ("images", "full")
"""Folders that some archives have between an environment and its classes."""


def get(benchmark: Benchmark, origins: Sequence[str], data_dir: str | None) -> Path:
    """Unpacks archives or links (none: the published ones) of a benchmark below `data_dir`; returns its folder.

    Environments may be at any depth and spelled with other spaces, `_` and `-`. Existing environments stay. Nothing is
    written outside of the folder; an InputError leaves it as it was, but for complete downloads.
    """
    if data_dir is None:
        raise InputError("data get needs --data_dir: expected the folder for the folders of the benchmarks")
    is_mnist = benchmark.name in MNIST
    if not (is_mnist or benchmark.root) or benchmark.manifest:
        raise InputError(f"data get cannot unpack {benchmark.name}: expected a benchmark of image folders, or of MNIST")
    folder = Path(data_dir)
    target = folder / (MNIST_FOLDER if is_mnist else benchmark.root)
    wanted = [name for name in benchmark.folders if not (target / name).is_dir()]
    if not wanted and not is_mnist:
        raise InputError(f"{target} has all environments of {benchmark.name}: remove it to get it again")
    folder.mkdir(parents=True, exist_ok=True)
    archives = archives_of(benchmark, origins, folder)
    with tempfile.TemporaryDirectory(prefix=".dg-batchformer-", dir=folder) as name:
        unpacked = Path(name)
        problems = Problems()
        for archive in archives:
            problems.attempt(unpack, archive, unpacked)
        problems.raise_any()
        found = files_of_mnist(unpacked) if is_mnist else environments_in(unpacked, wanted, benchmark, target)
        target.mkdir(parents=True, exist_ok=True)
        for own, path in found.items():
            path.rename(target / own)
    return target


def archives_of(benchmark: Benchmark, origins: Sequence[str], folder: Path) -> list[Path]:
    """The given archives, or those of links, downloaded; an InputError lists what is missing or dead."""
    published = published_links(benchmark.name)
    if not origins and not published:
        raise InputError(f"{benchmark.name} has no published link: give --from with an archive or a link")
    problems = Problems()
    found = []
    for origin in origins or published:
        if "://" in origin:
            found.append(problems.attempt(download, origin, folder / DOWNLOADS, published.get(origin, "")))
        elif Path(origin).is_file():
            found.append(Path(origin))
        else:
            problems.append(f"--from {origin} is not a file: expected an archive (.zip, .tar, .tar.gz, .gz) or a link")
    if problems:
        others = [link for link in published if not any(link in problem for problem in problems)]
        problems.append(
            f"published links of {benchmark.name}: {', '.join(others) or 'no other'}; or download its archives in a "
            "browser and give --from ARCHIVE"
        )
    problems.raise_any()
    return [path for path in found if path]


def published_links(name: str) -> dict[str, str]:
    """The published links of a benchmark, each with the MD5 of its content, "" if unknown."""
    name = MNIST[0] if name in MNIST else name
    with LINKS.open(encoding="utf-8", newline="") as opened:
        return {row["url"]: row["md5"] for row in csv.DictReader(opened) if row["dataset"] == name}


def download(url: str, folder: Path, md5: str) -> Path:
    """The file behind a link in `folder`; an interrupted download continues. InputError if the link is dead."""
    folder.mkdir(exist_ok=True)
    path = folder / hashlib.md5(url.encode("utf-8")).hexdigest()
    partial = path.with_suffix(".partial")
    if not path.exists():
        try:
            fetch(url, partial)
        except (OSError, ValueError) as error:  # OSError: that of urllib and of sockets
            raise InputError(f"{url} cannot be downloaded ({first_line(error)})") from error
        partial.rename(path)
    if md5 and (own := md5_of(path)) != md5:
        path.unlink()
        raise InputError(f"{url} has another content than published (MD5 {own}, expected {md5}): removed")
    return path


def fetch(url: str, partial: Path) -> None:
    """Downloads a link into a file, from where it ended."""
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # all of it is there
            return
        raise
    with answer, Progress(transient=True) as progress:
        is_rest = answer.status == 206
        length = answer.headers.get("Content-Length")
        total = int(length) + done * is_rest if length else None
        task = progress.add_task(f"downloading {url}", total=total, completed=done * is_rest)
        with partial.open("ab" if is_rest else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                progress.advance(task, len(block))
    if total is not None and partial.stat().st_size != total:
        raise ValueError(f"the connection ended at {partial.stat().st_size} of {total} bytes: give the command again")


def md5_of(path: Path) -> str:
    """The MD5 of a file."""
    found = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            found.update(block)
    return found.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive; an InputError names one that is damaged, unknown, or has paths outside of the folder."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                check_paths(archive, opened.namelist())
                opened.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                check_paths(archive, tar.getnames())
                tar.extractall(folder, filter="data")
        else:
            with gzip.open(archive) as packed, (folder / uuid.uuid4().hex).open("wb") as file:
                shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{archive} cannot be unpacked ({first_line(error)}): expected a zip, tar or gzip") from error


def check_paths(archive: Path, names: Sequence[str]) -> None:
    """InputError if an archive has paths that leave its folder."""
    outside = [name for name in names if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts]
    if outside:
        raise InputError(f"{archive} has paths outside of its folder, such as {outside[0]}: not unpacked")


def environments_in(folder: Path, wanted: Sequence[str], benchmark: Benchmark, target: Path) -> dict[str, Path]:
    """The unpacked folder of each wanted environment by its name, that nearest to the top; InputError lists others."""
    found: dict[str, Path] = {}
    names = {plain_name(name): name for name in wanted}
    for path in sorted(folders_below(folder), key=lambda path: (len(path.parts), path)):
        name = names.get(plain_name(path.name))
        if name and name not in found and (own := with_classes(path)):
            found[name] = own
    if missing := [name for name in wanted if name not in found]:
        present = sorted({path.name for path in folders_below(folder)})
        more = f" and {len(present) - 20} more" if len(present) > 20 else ""
        raise InputError(
            f"the archives have no folder with the classes of {', '.join(missing)}: expected the environments "
            f"{', '.join(benchmark.folders)} (those in {target} stay); found {', '.join(present[:20])}{more}"
        )
    return found


def folders_below(folder: Path) -> Iterator[Path]:
    """All folders below a folder, without those that never have data."""
    for path in folder.rglob("*"):
        if path.is_dir() and "__MACOSX" not in path.parts:
            yield path


def with_classes(path: Path) -> Path | None:
    """The folder of the classes of an environment: itself, or an inner folder; None if there are no images."""
    classes = [one for one in path.iterdir() if one.is_dir()]
    if len(classes) == 1 and classes[0].name in INNER:
        return with_classes(classes[0])
    has_images = any(file.name.lower().endswith(EXTENSIONS) for one in classes for file in one.iterdir())
    return path if has_images else None


def files_of_mnist(folder: Path) -> dict[str, Path]:
    """The unpacked files of MNIST by their names, which follow from their content: images or labels, and how many."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            head = file.read(8)
        kind = {0x803: "images-idx3", 0x801: "labels-idx1"}.get(int.from_bytes(head[:4], "big"))
        part = {60000: "train", 10000: "t10k"}.get(int.from_bytes(head[4:], "big"))
        if kind and part:
            found[f"{part}-{kind}-ubyte"] = path
    if len(found) < 4:
        raise InputError(
            f"the archives have {len(found)} of the four files of MNIST: {', '.join(sorted(found)) or 'none'}"
        )
    return found
