"""The reference dataset: its parameters (spec.json), and what `make reference` made of them (result.json)."""
