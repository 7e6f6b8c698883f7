"""The command line."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from dg_batchformer.commands import data, models, reports, training
from dg_batchformer.errors import InputError
from dg_batchformer.training.process import Interrupted

COMMANDS = {one.name: one for room in (training, reports, data, models) for one in room.COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; invalid input ends it with status 2 and a message, without a traceback."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: COMMANDS[arguments.command].run(arguments))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; its namespace has the command's name as `command`."""
    top = argparse.ArgumentParser(
        prog="dg-batchformer", description="BatchFormer for domain-generalization benchmarks."
    )
    commands = top.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for one in COMMANDS.values():
        examples = "\n".join(f"  dg-batchformer {example}" for example in one.examples)
        one.add(
            commands.add_parser(
                one.name,
                help=one.summary,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                epilog=f"examples:\n{examples}",
            )
        )
    return top


def guarded(command: Callable[[], int]) -> int:
    """The exit status of a command; prints errors for the user."""
    try:
        return command()
    except BrokenPipeError:
        # The reader of the output has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Interrupted as error:
        print(f"stopped by {error.signal_name}", file=sys.stderr)
        return 128 + signal.Signals[error.signal_name].value
