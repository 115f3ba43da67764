"""Show measurements: HTML pages, figures and terminal tables.

May import `export.bench`, `data` and `metrics`; needs no TensorFlow.
"""
