"""Tiny models and generated problems: the whole loop on a laptop, with nothing to download. Named by the demo YAMLs."""
