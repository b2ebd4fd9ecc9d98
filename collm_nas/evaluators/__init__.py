"""What scores architectures (`api.Evaluator`): one kind a file.

`table` looks them up in a CSV or Parquet file, `function` calls Python code.
"""
