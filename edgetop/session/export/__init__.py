"""Sessions as tidy tables, for spreadsheets and data frames."""
