"""What a model is: found by its name, told from others by a fingerprint, looked at in a process of its own."""
