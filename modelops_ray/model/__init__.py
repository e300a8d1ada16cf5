"""What a model is: found by its name, told from others by a fingerprint, imported once in a process of its own."""
