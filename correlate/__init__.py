"""Columns to attributed columns: who ran a statement, what it touched, whose data it was."""
