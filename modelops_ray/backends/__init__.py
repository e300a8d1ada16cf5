"""Where chunks run: Ray, or this process; one contract."""
