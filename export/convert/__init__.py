"""Turn a Keras model into `.tflite` files: graphs, quantization modes, calibration and the conversion process.

May import `models`, `data`, `text` and `export.tflite`.
"""
