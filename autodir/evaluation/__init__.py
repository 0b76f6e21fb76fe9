"""How good a model is: test sets, metrics, the systems to compare, suites that score them.

Apart from the rest so that nothing a user runs on a photo depends on how it is measured.
"""
