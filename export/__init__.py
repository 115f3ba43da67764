"""Ship a model: conversion to TFLite, a runtime, checks, bundles and measurements.

Nothing is imported here, so that `tfdistill.export.bench`, `runtime` and `verify` work where TensorFlow is not installed.
"""
