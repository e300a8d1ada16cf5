"""Run directories: parts, the commit log, progress and profiles; decides nothing about the run."""
