"""Results drawn on matplotlib Axes."""
