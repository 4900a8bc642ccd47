"""Scoring: the protocols of the field, by which validation, `basicsr test` and leaderboards all score."""

from semanir_plugin.basicsr_host.scoring.protocols import PROTOCOLS, Condition, Metric, Protocol

__all__ = ["PROTOCOLS", "Condition", "Metric", "Protocol"]
