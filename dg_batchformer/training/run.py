"""One run, from its arguments to its records; an interrupted one is resumed."""

from dg_batchformer.data.environments import Dataset
from dg_batchformer.errors import InputError
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.claim import LostError
from dg_batchformer.runs.failures import details, sentence
from dg_batchformer.runs.run import resolve
from dg_batchformer.training.process import SIGNALS, Asked, Interrupted, captured, handled
from dg_batchformer.training.setup import Setup
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

    An interrupted run resumes from its last saved state in the folder, and ends as if nothing had happened. `dataset`
    spares loading it again; without `echo` nothing is printed but to `out.txt`; with `overwrite` a run in the folder,
    finished or not, is replaced. Wrong arguments are an InputError before anything is written. A later failure is
    raised too, and stands in `failed` and `err.txt`. SIGTERM, SIGUSR1 and SIGINT save and raise Interrupted; a run that
    another process has is a TakenError, unless its claim is the one called `lost_claim`.
    """
    resolved = resolve(arguments)
    folder = resolved.folder
    if not overwrite and folder.is_done:
        raise FinishedError(f"{folder} holds a finished run: give another --output_dir, or --overwrite to replace it")
    other = None if overwrite else folder.other_run(arguments.key)
    if other:
        raise InputError(
            f"{folder} holds records of another run ({other}): give another --output_dir, or --overwrite to replace it"
        )
    setup = Setup.from_run(resolved, dataset)
    asked = Asked()
    # A second signal, while the claim is being given up, is heeded too.
    with handled(SIGNALS, asked.note), folder.claimed(lost_claim) as claim:
        if not overwrite and folder.is_done:
            return  # by another process, between our look and our claim
        if overwrite:
            folder.clear_saved_states()
        folder.clear_live()  # of a process that was killed here
        train(Trainer(setup, asked, claim), echo=echo)
        claim.keep()
        folder.mark_done()


def train(trainer: Trainer, *, echo: bool) -> None:
    """Resumes or begins a run, and trains it to its end; marks it as failed where it fails."""
    folder = trainer.folder
    notes = trainer.resume()
    if not trainer.state.n_updates and folder.clear_earlier_run():
        notes.append(f"{folder} held an earlier run, which this one replaces")
    with captured(folder, echo=echo):
        print(*notes, sep="\n", end="\n" * bool(notes))
        try:
            trainer.train()
        except Interrupted as error:
            n_updates = trainer.state.n_updates
            print(f"left after {n_updates} updates, asked by {error.signal_name}: the same command goes on")
            raise
        except LostError:
            raise
        except Exception as error:
            trainer.claim.keep()
            folder.mark_failed(sentence(error), details(error))
            raise
        finally:
            if not trainer.claim.lost.is_set():
                folder.clear_live()
