"""The data half of the recipe: which problems to train on, which rollouts to learn from, how to mix them.

Pure functions and small classes on rows (mappings), without an engine, a GPU or torch. A filter takes a row and
returns a :class:`sailrl.types.Verdict`: keep it or not, a reason in a few fixed words, and the numbers behind it.

Which problems: ``pass_at_k`` (sometimes solved), ``evidence`` (scored rows to samples per problem), ``mcq`` with
``mcq_options``, ``mcq_rewrite`` and ``mcq_judge`` (multiple choice to free response), ``dedup``, ``images``,
``decontaminate``.
Which rollouts: ``rejection``. Preparing chains of thought: ``tags``, ``redundancy``, ``length``.
Mixing: ``fusion``, with ``chat`` and ``histogram``. In a row: ``pipeline``. What they read from a row: ``reading``.
"""
