"""Training a model: the engine, its phases, losses, log and cost."""
