"""Measure, profile and report on .tflite files. Nothing here imports TensorFlow."""
