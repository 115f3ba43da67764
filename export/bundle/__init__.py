"""Write and check bundles: model file, tokenizer, labels, golden vectors, README and manifest.

May import the other export rooms.
"""
