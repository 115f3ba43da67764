"""Read, run and describe `.tflite` files: interpreter, operators, delegates, metadata, parity and the accuracy gate.

Needs no TensorFlow. May import `errors`, `system` and `metrics`.
"""
