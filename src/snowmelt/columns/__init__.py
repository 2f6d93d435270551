"""What becomes of a value on its way: which types travel into which, and how a batch is converted."""
