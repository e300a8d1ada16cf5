"""Manifests for KubeRay: what a study needs as pods, written, checked and judged by Ray's own autoscaler."""
