"""The command on data: their images, caches and splits."""

import argparse
import textwrap
from pathlib import Path

from dg_batchformer import machine
from dg_batchformer.commands.flags import Command, run_flags
from dg_batchformer.data import find_benchmark
from dg_batchformer.data.folders import Source
from dg_batchformer.errors import InputError
from dg_batchformer.runs import run_in
from dg_batchformer.runs.arguments import FIELDS, Role, names_of
from dg_batchformer.runs.folder import RunFolder


def _data_parser(p: argparse.ArgumentParser) -> None:
    p.description = textwrap.dedent("""\
        check  decodes every image and lists the corrupt ones; writes nothing
        cache  decodes the images into the cache that runs read
        info   shows the environments, classes, images and caches
        splits writes the splits of the run in --run to --output, for `train --splits`
        get    unpacks archives into the folders of a benchmark in --data_dir""")
    p.add_argument("action", choices=["check", "cache", "info", "splits", "get"])
    p.add_argument("name", nargs="?", help="the dataset, in place of --dataset")
    p.add_argument("--dataset", help=FIELDS["dataset"].metadata["help"])
    run_flags(p, [*names_of(Role.DATA), "image_cache", "skip_corrupt", "partial_classes"])
    written = p.add_argument_group("splits")
    written.add_argument("--run", metavar="DIR", help="folder of a run")
    written.add_argument("--output", metavar="FILE", help="CSV file to write")
    unpacked = p.add_argument_group("get")
    unpacked.add_argument(
        "--from",
        dest="origins",
        nargs="+",
        default=[],
        metavar="ARCHIVE|URL",
        help="zip, tar or gzip files, or links to them; default: the published links",
    )


def data(arguments: argparse.Namespace) -> int:
    """Checks the images of a benchmark, decodes them into the cache, shows them, or writes the splits of a run."""
    if arguments.action == "splits":
        return write_splits(arguments)
    from dg_batchformer.data import loaders

    arguments.dataset = arguments.dataset or arguments.name
    if not arguments.dataset:
        raise InputError(f"data {arguments.action} needs --dataset: expected a benchmark, folder:PATH or manifest:FILE")
    if arguments.action == "get":
        return get_data(arguments)
    action = {"check": loaders.check, "cache": loaders.fill_cache, "info": loaders.info}[arguments.action]
    allowed = arguments.skip_corrupt, arguments.partial_classes, arguments.image_cache
    where = Source(arguments.data_dir, arguments.cache_dir, *allowed, machine.available_cores())
    print("\n".join(action(find_benchmark(arguments.dataset), where)))
    return 0


def get_data(arguments: argparse.Namespace) -> int:
    """Unpacks archives of a benchmark and compares the number of its images with the published one."""
    from dg_batchformer.data import get, loaders

    benchmark = find_benchmark(arguments.dataset)
    folder = get.get(benchmark, arguments.origins, arguments.data_dir)
    print(f"{benchmark.name} is in {folder}")
    if benchmark.folders:
        tree = loaders.tree_of(benchmark, Source(arguments.data_dir, partial_classes=arguments.partial_classes))
        print(loaders.compared(benchmark, tuple(len(one.paths) for one in tree.folders)))
    return 0


def write_splits(arguments: argparse.Namespace) -> int:
    """Writes the splits of a run to a file, for other runs."""
    from dg_batchformer.data import splits
    from dg_batchformer.training.setup import load_data, run_splits

    if not (arguments.run and arguments.output):
        raise InputError("data splits needs --run and --output: expected the folder of a run and a CSV file to write")
    run = run_in(RunFolder(Path(arguments.run)), **moved(arguments))
    if run.benchmark.tests:
        raise InputError(
            f"{arguments.run} has the splits of {run.arguments.dataset}: expected a run with random splits"
        )
    dataset = load_data(run.arguments)
    Path(arguments.output).write_text(splits.text_of(run_splits(run, dataset), dataset), encoding="utf-8")
    print(f"wrote {arguments.output}")
    return 0


def moved(arguments: argparse.Namespace) -> dict[str, str]:
    """The given places of data that have moved since a run."""
    return {name: value for name in ("data_dir", "cache_dir") if (value := getattr(arguments, name)) is not None}


COMMANDS = (
    Command(
        "data",
        "the images of a benchmark: check, cache, info, splits, get",
        _data_parser,
        data,
        (
            "data check --dataset PACS --data_dir DATA",
            "data get PACS --from PACS.zip --data_dir DATA",
        ),
    ),
)
