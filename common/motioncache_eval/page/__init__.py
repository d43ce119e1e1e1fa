"""The report page: one HTML file that opens from disk and shows what each method did."""
