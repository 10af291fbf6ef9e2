"""The data half of the recipe: which problems to train on, which rollouts to learn from, how to mix them.

Pure functions and small classes on rows (mappings), without an engine, a GPU or torch. A filter takes a row and
returns a :class:`sailrl.types.Verdict`: keep it or not, a reason in a few fixed words, and the numbers behind it.
"""
