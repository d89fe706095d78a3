"""Results as plain types, charts, and the page of a report."""
