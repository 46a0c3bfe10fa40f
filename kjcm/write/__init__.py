"""Tables of any common kind, written in chunks: CSV, TSV, XLSX, Parquet, SPSS and Stata."""
