"""A benchmark too large to keep decoded: images per second, bytes, build time and memory of each way to load it.

    python benchmarks/large.py --folder FOLDER --domainbed DomainBed

FOLDER gets 60,000 generated JPEG images (`--images`) of 250 to 650 pixels, about 32 kB each as DomainNet's, in four
environments; it keeps them for the next time. The sides are our two caches, decoded and encoded, and DomainBed's
loaders, each in its own process, which is stopped while another has its turn. `small` is the encoded side on a tenth of
the images. Memory is what the process and its workers have beside mapped files (Pss_Anon), at its highest.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import loading
import numpy as np
from common import Side, answer, header, ratios, spread
from PIL import Image

ENVIRONMENTS, CLASSES = 4, 10
SIDES = ("encoded", "decoded", "DomainBed", "small")


def generate(root: Path, n: int) -> None:
    """n images below `root`, unless they are there."""
    mark = root.with_suffix(".complete")
    if mark.exists() and mark.read_text() == str(n):
        return
    shutil.rmtree(root, ignore_errors=True)
    with ProcessPoolExecutor() as pool:
        cells = range(ENVIRONMENTS * CLASSES)
        list(pool.map(generate_cell, [root] * len(cells), cells, [n // len(cells)] * len(cells)))
    mark.write_text(str(n))


def generate_cell(root: Path, cell: int, n: int) -> None:
    """The images of a class of an environment: large and small shapes of random colours, and a little noise."""
    folder = root / f"environment{cell // CLASSES}" / f"class{cell % CLASSES}"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(cell)
    for i in range(n):
        width, height = generator.integers(250, 650, 2).tolist()
        pixels = np.zeros((height, width, 3), np.float32)
        for cells, strength in ((6, 160), (40, 60)):
            coarse = Image.fromarray(generator.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
            pixels += strength / 255 * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels += generator.normal(0, 3, (height, width, 1)).astype(np.float32)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=85)


def serve(args: argparse.Namespace) -> None:
    """A side: says when it is ready, then answers each line of its input with the images per second of a turn."""
    args.dataset, args.data_dir = f"folder:{args.folder}", None
    args.image_cache = "decoded" if args.side == "decoded" else "encoded"
    in_workers = args.side == "DomainBed"
    with contextlib.redirect_stdout(sys.stderr):
        steps = loading.theirs(args) if in_workers else loading.ours(args)
        next(steps)
    loading.stop_workers()

    def turn() -> float:
        rate = loading.images_per_second(steps, args.steps, in_workers=in_workers)
        loading.stop_workers()
        return rate

    answer(turn)


def cache_gb(root: Path, kind: str) -> float:
    """The size of a cache beside `root`, in GB."""
    folders = (root.parent / ".dg-batchformer-cache" / root.name).glob("folder-*")
    own = [one for one in folders if ("-encoded-" in one.name) == (kind == "encoded")]
    return sum(file.stat().st_size for folder in own for file in folder.iterdir()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    loading.add_flags(parser)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return serve(args)
    print(header(args), flush=True)
    roots = {name: args.folder / ("few" if name == "small" else "many") for name in SIDES}
    generate(args.folder / "many", args.images)
    generate(args.folder / "few", args.images // 10)
    shutil.rmtree(args.folder / ".dg-batchformer-cache", ignore_errors=True)
    gb = sum(file.stat().st_size for file in roots["DomainBed"].rglob("*.jpg")) / 1e9
    print(f"{args.images} images in {gb:.2f} GB", flush=True)
    sides = {}
    for name, root in roots.items():
        command = [__file__, "--side", name, "--folder", root, "--steps", args.steps, "--domainbed", args.domainbed]
        command += ["--batch_size", args.batch_size]
        sides[name] = Side([*command, *(["--workers", args.workers] if args.workers is not None else [])])
        kept = f", cache {cache_gb(root, name if name != 'small' else 'encoded'):.2f} GB" * (name != "DomainBed")
        print(f"{name:10} ready after {sides[name].seconds:.0f} s{kept}", flush=True)
    for _ in range(args.turns + 1):
        for side in sides.values():
            side.turn()
    for side in sides.values():
        side.end()
    for name, side in sides.items():
        print(f"{name:10} {spread(side.rates[1:], 0)} images/s, at most {side.mib:.0f} MiB")
    rates = {name: side.rates[1:] for name, side in sides.items()}
    for over, under in (("encoded", "decoded"), ("encoded", "DomainBed")):
        print(f"{over} to {under}: {spread(ratios(rates[over], rates[under]))} of {args.turns} turns")
    print(f"memory of the encoded side, all images to a tenth: {sides['encoded'].mib / sides['small'].mib:.2f}")


if __name__ == "__main__":
    main()
