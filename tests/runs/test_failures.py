"""What a failure is called, and its marks."""

import errno
import os

import pytest
import torch

from dg_batchformer import errors
from dg_batchformer.errors import InputError
from dg_batchformer.runs import files, records
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.training.trainer import Trainer, run


def raised(attempt):
    with pytest.raises((OSError, RuntimeError)) as caught:
        attempt()
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/there/x"),
            "the disk is full (OSError: [Errno 28] No space",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full (OSError: [Errno 122] Disk quota"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied (PermissionError: "),
        (OSError(errno.EROFS, "Read-only file system"), "permission denied (OSError: "),
        (FileNotFoundError(errno.ENOENT, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        (MemoryError(), "out of memory (MemoryError: ): run fewer at once, or with a smaller batch_size"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory (OSError: [Errno 12] Cannot allocate"),
        (RuntimeError("CUDA error: out of memory"), "out of memory (RuntimeError: CUDA error: out of memory)"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when"), "out of memory (RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "out of memory (OutOfMemoryError: CUDA out of memory.)"),
        (RuntimeError("no luck"), "RuntimeError: no luck"),
    ],
)
def test_what_is_lacking_is_said(error, said):
    assert errors.sentence(error).startswith(said)


def test_torchs_own_lack_of_memory():
    error = raised(lambda: torch.empty(2**50))
    assert errors.sentence(error).startswith("out of memory (RuntimeError: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is full")
def test_a_full_disk_itself():
    def write():
        with open("/dev/full", "w") as file:
            file.write("x")

    assert errors.sentence(raised(write)).startswith("the disk is full (OSError: [Errno 28] ")


def test_what_another_try_could_mend():
    assert errors.may_pass(RuntimeError())
    assert not errors.may_pass(InputError())
    assert not errors.may_pass(errors.DivergedError())


@pytest.mark.parametrize("when", ["at a record", "at the state"])
def test_a_run_that_finds_the_disk_full_goes_on_when_there_is_room(tmp_path, monkeypatch, when):
    """To the end of one that found room, and the file that did not fit is gone."""
    arguments = RunArguments(
        dataset="Debug28",
        steps=6,
        checkpoint_freq=2,
        checkpoint_minutes=0,
        hparams='{"batch_size": 4}',
        output_dir=str(tmp_path / "run"),
        skip_model_save=True,
    )
    folder = tmp_path / "run"

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    original = Trainer._checkpoint

    def checkpoint(self, step):
        if step == 4:
            patch.setattr(files, "append", full) if when == "at a record" else patch.setattr(os, "fsync", full)
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_checkpoint", checkpoint)
        error = raised(lambda: run(arguments, echo=False))
    assert errors.sentence(error).startswith("the disk is full")
    assert (folder / files.FAILED).read_text().startswith("the disk is full")
    assert not list(folder.glob("*.partial"))
    run(arguments, echo=False)
    assert "resuming after 4 updates" in (folder / files.OUT).read_text()
    steps = [record.step for record in records.read(folder / files.RESULTS)[0]]
    assert steps == [0, 2, 4, 5]
    assert RunFolder(folder).is_done


def test_only_a_full_disk_lets_things_go_unsaid():
    with errors.but_for_space():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BrokenPipeError), errors.but_for_space():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
