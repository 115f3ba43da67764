"""What distillation is made of: features, losses, layer mappings, terms and the `Distiller` that sums them.

Knows no text, no file and no concrete model. May import `errors`, `system` and `optim`.
"""
