"""Makes BasicSR importable (`imports`) and correct (`repairs`) on a current stack; nothing on disk is changed."""
