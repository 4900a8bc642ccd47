"""Scoring: the protocols of the field, by which validation, `basicsr test` and leaderboards all score."""

from semanir_plugin.basicsr_host.scoring.protocols import PROTOCOLS, Metric, Protocol, mean_score

__all__ = ["PROTOCOLS", "Metric", "Protocol", "mean_score"]
