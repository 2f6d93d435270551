"""What is deployed: template, state machine, permissions, artifact."""
