"""How networks are trained and tested, registered in BasicSR's MODEL_REGISTRY on import."""

import basicsr  # noqa: F401  # the host comes first: it registers everything, this package included

from semanir_plugin.basicsr_host.models.semanir_model import SemanIRModel

__all__ = ["SemanIRModel"]
