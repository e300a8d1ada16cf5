"""Kubernetes as it is seen at work: RayJobs, and the pods behind Ray's nodes."""
