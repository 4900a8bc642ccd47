"""SemanIR for BasicSR.

Importing this package attaches it to BasicSR: the host is made importable and correct on a current stack
(`semanir_plugin.compat`), and every architecture, model, dataset, loss and metric enters BasicSR's registries.
Where BasicSR is not imported yet, this happens at the moment it is, so that `basicsr --help` need not wait for torch.
"""

from semanir_plugin import compat

__version__ = "0.1.0"

compat.attach()
