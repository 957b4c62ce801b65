"""Files of transactions as people have them: Parquet and CSV, whole or in parts."""
