"""One session of a run: what it is asked, what is known before it, the loop, the ports, and what came of it."""
