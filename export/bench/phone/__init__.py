"""Measure latency on phones: Android through adb, iOS through Xcode's tools. Never tried on hardware.

May import `export.bench` and below.
"""
