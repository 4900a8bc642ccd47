"""Scoring: the protocols of the field, by which validation, `basicsr test` and leaderboards all score."""

import basicsr  # noqa: F401  # the host comes first: it registers the models, which score

from semanir_plugin.basicsr_host.scoring.fitting import dataset_problems, protocol_problems
from semanir_plugin.basicsr_host.scoring.protocols import PROTOCOLS, Metric, Protocol, mean_score
from semanir_plugin.basicsr_host.scoring.scorer import Scorer, split_metrics, tensor_to_image

__all__ = [
    "PROTOCOLS",
    "Metric",
    "Protocol",
    "Scorer",
    "dataset_problems",
    "mean_score",
    "protocol_problems",
    "split_metrics",
    "tensor_to_image",
]
