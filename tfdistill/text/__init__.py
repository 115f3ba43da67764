"""Turn texts into token ids, with character offsets and word numbers.

The `tokenizers` library does the work; this room holds the settings, the vocabulary files and the
arrays. May import `errors` and `system`; needs no TensorFlow.
"""
