"""Clusters of other machines: Ray jobs, KubeRay manifests and their sizes, and the pods behind Ray's nodes."""
