"""Networks of option files side by side: what they take of time and memory here."""
