"""What makes the models and prompts that the peers are measured with."""
