"""Plain-text corpora for masked language models: reading, cutting, masking, storing and sharding.

May import `augment`, `models`, `data` and the rooms below these.
"""
