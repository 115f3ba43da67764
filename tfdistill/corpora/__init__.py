"""Read, cut, store and mask plain text for language models, in one corpus or in shards.

May import `augment`, `models`, `data` and the rooms below these.
"""
