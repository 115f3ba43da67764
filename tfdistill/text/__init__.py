"""Turn texts into token ids, with offsets and word ids.

May import `errors` and `system`; needs no TensorFlow.
"""
