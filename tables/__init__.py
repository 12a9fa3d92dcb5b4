"""The tables: what is kept of each subject, and the pure rule of which row is kept."""
