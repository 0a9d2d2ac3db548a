"""What reports are made of: statistics over seeds, figures, tables, one page."""
