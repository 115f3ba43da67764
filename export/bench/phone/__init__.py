"""Measure latency on phones: Android through adb, iOS through TensorFlow Lite's app. Experimental, never tried on hardware.

May import `export.bench` and below.
"""
