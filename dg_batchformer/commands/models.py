"""Commands on algorithms and models: whether an algorithm works."""

import argparse

from dg_batchformer.commands.flags import Command


def _check_parser(p: argparse.ArgumentParser) -> None:
    p.description = (
        "Runs an algorithm on random images and says, point by point, whether it trains, predicts, keeps its state, "
        "resumes, and takes each modifier. The status is 1 if it fails without a modifier."
    )
    p.add_argument("algorithm", help="a name or module:Class")
    p.add_argument("--hparams", default="{}", help="JSON object of hyper-parameters, in place of the defaults")
    p.add_argument("--image_size", type=int, default=32, help="width of the images (default %(default)s)")


def check_algorithm(arguments: argparse.Namespace) -> int:
    """The points of an algorithm on random images."""
    from dg_batchformer.registry import MODIFIER_ORDER
    from dg_batchformer.runs.arguments import parse_hparams
    from dg_batchformer.training.check import check_algorithm

    fails = False
    for point in check_algorithm(arguments.algorithm, parse_hparams(arguments.hparams), arguments.image_size):
        kind = f"with {point.name}" if point.name in MODIFIER_ORDER else point.name
        print(f"{'ok' if point.holds else 'NO':3} {kind:17} {point.found}", flush=True)
        fails |= not point.holds and point.name not in MODIFIER_ORDER
    return int(fails)


COMMANDS = (
    Command(
        "check-algorithm",
        "an algorithm on random images: what works",
        _check_parser,
        check_algorithm,
        (
            "check-algorithm my_algorithms:WorstEnvironment",
            "check-algorithm LDAM --hparams '{\"lr\": 0.01}'",
        ),
    ),
)
