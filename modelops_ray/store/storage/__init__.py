"""Where the files of a run lie: a local folder or an object store, behind one interface."""
