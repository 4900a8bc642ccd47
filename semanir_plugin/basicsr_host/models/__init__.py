"""Models, in BasicSR's sense: training and testing of networks. They register when imported."""

import basicsr  # noqa: F401  # the host comes first: it registers everything, this package included

from semanir_plugin.basicsr_host.models.semanir_model import SemanIRModel

__all__ = ["SemanIRModel"]
