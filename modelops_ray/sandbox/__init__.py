"""Everything that runs under the model's own Python, and nothing else.

It needs the standard library, `errors`, and pyarrow and NumPy where results are read. Workers import some of it.
"""
