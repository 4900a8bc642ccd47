from __future__ import annotations

import pytest
import torch
from basicsr.models.sr_model import SRModel

from semanir_plugin.basicsr_host.engine.dry_run import dry_run_patch
from semanir_plugin.errors import UserError


class Refusing(torch.nn.Module):
    def forward(self, x):
        raise ValueError("no patch will do")


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_refuses_a_patch_keeps_its_mode(training):
    model = object.__new__(SRModel)  # without what a training has
    model.net_g, model.device = Refusing().train(training), torch.device("cpu")
    with pytest.raises(UserError, match=r"training patches of 3 x 8 x 8: .*no patch will do"):
        dry_run_patch(model, {"lq": torch.zeros(3, 8, 8)})
    assert model.net_g.training is training
