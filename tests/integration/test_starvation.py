"""Small requests in a refilled window, and a few for most of the node: nobody waits for ever."""

from support.studies import assert_equal_bits, rows  # noqa: F401

MB = 10**6
