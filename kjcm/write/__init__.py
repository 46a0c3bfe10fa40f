"""Write tables in chunks: CSV, TSV, XLSX, Parquet, SPSS and Stata."""
