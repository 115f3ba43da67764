"""Augment training texts: the methods of Tang et al. (2019) and TinyBERT, and their resources.

May import `data`, `text`, `cache` and `system`.
"""
