"""Measure .tflite files. Nothing here imports TensorFlow."""
