"""How one forward pass is taken apart: every operation is seen, and its implicit bias contracted with its adjoint."""
