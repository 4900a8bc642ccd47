"""ZeRO-1 through torch's own optimiser: each process keeps the optimiser's state of a part of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.nn import Parameter
from torch.optim import Optimizer

from semanir_plugin.basicsr_host.optimization import construct, known_optimizers

if TYPE_CHECKING:
    from torch.distributed.optim import ZeroRedundancyOptimizer

__all__ = ["build_sharded_optimizer", "gather_states"]


def build_sharded_optimizer(name: str, parameters: Iterable[Parameter], **options: Any) -> ZeroRedundancyOptimizer:
    """Return an optimiser that takes the steps of `torch.optim`'s of that name, its state divided over the processes.

    After each step every process sends the others the weights it is in charge of. Rajbhandari et al., "ZeRO: Memory
    Optimizations Toward Training Trillion Parameter Models", SC 2020, section 5.1 (P_os).

    Args:
        name: As `train.optim_g` names it.
        parameters: Parameters to optimise, of one dtype, in the same order on all processes.
        **options: Arguments of the optimiser.

    Raises:
        UserError: There is no such optimiser, or it refuses the options.
    """
    from torch.distributed.optim import ZeroRedundancyOptimizer  # slow to import, rarely asked for

    known: dict[str, Any] = {
        key: partial(ZeroRedundancyOptimizer, optimizer_class=each) for key, each in known_optimizers().items()
    }
    optimizer: ZeroRedundancyOptimizer = construct("optimizer", name, known, parameters, **options)
    optimizer.defaults = optimizer.optim.defaults  # which schedulers ask, such as OneCycleLR
    return optimizer


def gather_states(optimizers: Iterable[Optimizer]) -> None:
    """Bring the parts of divided states to the first process, whose `state_dict` is then the plain optimiser's.

    All processes must call this. Optimisers that are not divided are left alone.
    """
    for optimizer in optimizers:
        if hasattr(optimizer, "consolidate_state_dict"):
            optimizer.consolidate_state_dict(to=0)
