"""Labelled data: readers for each file format, splits, batches and predictions.

May import `text`, `metrics`, `cache` and `system`.
"""
