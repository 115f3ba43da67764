"""Encoders, heads and presets; loading, saving and running them.

May import `data`, `text` and `distill` (features) and the rooms below these.
"""
