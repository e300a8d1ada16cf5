"""Ray jobs on a cluster somewhere else: what travels, how it is submitted, and what becomes of it."""
