"""Make a trained model smaller: prune layers, heads, neurons and vocabulary, share weights.

May import `models`, `data` and the rooms below these.
"""
