"""SemanIR and AST: image restoration by PyTorch alone, and as a plugin for BasicSR.

Importing this package imports neither torch nor BasicSR. It attaches to BasicSR at the moment that is imported: the
host is made importable and correct on a current stack (`semanir_plugin.basicsr_host`), and every architecture, model,
dataset, loss and metric enters its registries.
"""

from semanir_plugin.hosts import attach_to_hosts

__version__ = "0.1.0"

attach_to_hosts()
