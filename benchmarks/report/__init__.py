"""From records to what people read: a table for the README, and one HTML page with plots and the answer.

Everything here is computed from records alone; nothing is measured and nothing is remembered elsewhere.
"""
