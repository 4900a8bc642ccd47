"""Compatibility: BasicSR made importable (`imports`) and correct (`repairs`) on a current stack, in memory only."""
