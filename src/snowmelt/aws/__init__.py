"""What is asked of AWS itself: executions, stacks, secrets, metrics."""
