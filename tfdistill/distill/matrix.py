"""A trainable matrix as a layer."""

from __future__ import annotations

from typing import Any

import keras


class Matrix(keras.layers.Layer):
    """One trainable matrix (rows, columns)."""

    def __init__(self, rows: int, columns: int, **kwargs: Any):
        super().__init__(**kwargs)
        # Columns have length 1 on average, so projected parameters are about as large as before.
        initializer = keras.initializers.RandomNormal(stddev=rows**-0.5)
        self.matrix = self.add_weight(shape=(rows, columns), initializer=initializer, name="matrix")
        self.built = True
