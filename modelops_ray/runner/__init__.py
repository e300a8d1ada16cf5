"""What executes a chunk on a node: the model, its outputs as tables, and what it cost."""
