"""Augmented training texts: the methods of Tang et al. (2019) and TinyBERT, and what they read.

May import `data`, `text`, `cache` and `system`.
"""
