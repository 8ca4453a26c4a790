"""Attribution along paths: where to walk, and what a step is worth."""
