"""Running chunks on Ray: the cluster or an embedded one, tasks, errors and what earlier ones left."""
