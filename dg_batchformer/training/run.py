"""One run, from its arguments to its records, and on from where an interrupted one was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dg_batchformer.data.environments import Dataset
from dg_batchformer.errors import InputError
from dg_batchformer.runs import failures, live, records
from dg_batchformer.runs.arguments import RunArguments, check
from dg_batchformer.runs.claim import Claim, LostError, claimed
from dg_batchformer.training import resume
from dg_batchformer.training.interrupt import Asked, Interrupted, listening
from dg_batchformer.training.output import captured
from dg_batchformer.training.parts import prepared_data
from dg_batchformer.training.trainer import Trainer


class FinishedError(InputError):
    """A folder holds a finished run, which is not replaced unasked."""


def run(
    arguments: RunArguments,
    dataset: Dataset | None = None,
    *,
    echo: bool = True,
    overwrite: bool = False,
    lost_claim: str = "",
) -> None:
    """Trains one algorithm with some environments left out, and writes the files of the run.

    A run that was interrupted goes on from its last state in the folder, and ends as if nothing had happened. `dataset`
    spares loading it again; without `echo` nothing is printed but to `out.txt`; with `overwrite` a run in the folder,
    finished or not, is replaced. Wrong arguments are an InputError before anything is written. What fails later is
    raised too, and stands in `failed` and `err.txt`. SIGTERM, SIGUSR1 and SIGINT save and raise Interrupted; a run that
    another process has is a TakenError, unless its claim is the one called `lost_claim`.
    """
    hparams = check(arguments)
    folder = Path(arguments.output_dir)
    if not overwrite and records.state_of(folder) == "done":
        raise FinishedError(f"{folder} holds a finished run: give another --output_dir, or --overwrite to replace it")
    other = None if overwrite else records.other_run(folder, records.RunKey.of(dataclasses.asdict(arguments)))
    if other:
        raise InputError(
            f"{folder} holds records of another run ({other}): give another --output_dir, or --overwrite to replace it"
        )
    prepared = Trainer(arguments, hparams, prepared_data(arguments, hparams, dataset))
    # A second signal, while the claim is being given up, is heeded too.
    with listening() as asked, claimed(folder, lost_claim) as claim:
        if not overwrite and records.state_of(folder) == "done":
            return  # by another process, between our look and our claim
        _run(prepared, folder, asked, claim, echo=echo, overwrite=overwrite)


def _run(prepared: Trainer, folder: Path, asked: Asked, claim: Claim, *, echo: bool, overwrite: bool) -> None:
    if overwrite:
        resume.clear(folder)
    live.clear(folder)  # of who was killed here
    notes = prepared.go_on()
    if not prepared.n_updates and records.start(folder):
        notes.append(f"{folder} held an earlier run, which this one replaces")
    with captured(folder, echo=echo):
        print(*notes, sep="\n", end="\n" * bool(notes))
        try:
            prepared.train(asked, claim)
        except Interrupted as error:
            print(f"left after {prepared.n_updates} updates, asked by {error.signal_name}: the same command goes on")
            raise
        except LostError:
            raise
        except Exception as error:
            claim.keep()
            failures.mark_error(folder, error)
            raise
        finally:
            if not claim.lost.is_set():
                live.clear(folder)
    claim.keep()
    records.mark(folder / records.DONE, "done")
    resume.clear(folder)
