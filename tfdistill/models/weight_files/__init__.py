"""The files in which model directories hold weights: each form is read to `Tensors`, names and shapes first.

Nothing here imports TensorFlow when it is imported, and PyTorch is never imported.
"""
