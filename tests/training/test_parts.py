"""What a state is known by."""

import torch

from dg_batchformer.data.environments import Dataset, TensorEnvironment
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.parts import identity

DATASET = Dataset("RotatedDigits", [TensorEnvironment("a", torch.zeros(3), torch.zeros(3))], (1,), 2, 1, 1)


def test_fixed_hparams_stand_in_the_identity_of_a_state_by_the_draw_alone():
    """So that a state of a version that did not know them is still the run's."""
    before = "58dc496fcd422d825ce2b1e9c7d5e91be270696ca812243aca016215d07c1b54"
    for fixed_hparams in (False, True):
        arguments = RunArguments(hparams_seed=2, trial_seed=1, fixed_hparams=fixed_hparams)
        assert identity(arguments, {"lr": 0.5}, DATASET) == before
        assert identity(arguments, {"lr": 0.4}, DATASET) != before
