"""Optimizers, learning-rate schedules, loss scaling and freezing inside one compiled step.

May import `errors` and `system`.
"""
