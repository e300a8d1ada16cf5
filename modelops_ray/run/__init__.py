"""What a run is: the request, one session of it, the driver, what is known from earlier runs, and what is planned."""
