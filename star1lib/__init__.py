"""STAR-1 Reproduced: policy-grounded safety data for reasoning models, one stage per module.

Importing this package loads nothing heavy; each stage imports what it needs when it is used.
"""

__version__ = "0.1.0"
