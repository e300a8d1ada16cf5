"""One page about a run, for a browser: tables to values (`build` and what it calls), and values to HTML (`render`)."""
