"""What all attribution methods share: checks, the target function, the guards and sums over rows."""
