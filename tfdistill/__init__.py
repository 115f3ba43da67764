"""tfdistill: distil BERT into phone-sized text models and ship them as quantized TFLite."""
