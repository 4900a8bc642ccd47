"""Times by turns, and the description of the machine."""

from __future__ import annotations

import pytest

from semanir_plugin.evaluation.benchmark import measuring


def test_all_take_turns():
    calls = []
    times = measuring.take_turns([lambda: calls.append("a"), lambda: calls.append("b")], 3, "cpu")
    assert calls == ["a", "b"] * 5
    assert len(times) == 2


def test_times_are_the_least_and_the_median(monkeypatch):
    clock = iter([0.0, 9.0, 9.0, 9.0, 0.0, 0.003, 0.003, 0.004, 0.004, 0.009])  # two turns that warm up
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    processor = iter([0.0, 9.0, 9.0, 9.0, 0.0, 0.002, 0.002, 0.004, 0.004, 0.005])
    monkeypatch.setattr(measuring.time, "process_time", lambda: next(processor))
    (times,) = measuring.take_turns([lambda: None], 3, "cpu")
    assert times == pytest.approx((1.0, 1.0, 3.0))


def test_a_machine_without_git_is_described(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "commit unknown" in measuring.describe_machine("cpu")
