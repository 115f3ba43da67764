"""Scores of predictions: classification, entities and answers.

Pure NumPy. May import `errors` and `system`.
"""
