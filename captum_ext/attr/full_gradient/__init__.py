"""Full gradients: the output as input times gradient, and the contribution of every bias."""
