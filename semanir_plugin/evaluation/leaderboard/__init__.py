"""Many models times many test sets, by the protocols of the field: scores, costs, tables and a page."""
