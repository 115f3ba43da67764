"""Train recipes: stages, teacher outputs, checkpoints, the runner and run directories.

May import everything but `recipes`, `export` and `commands`.
"""
