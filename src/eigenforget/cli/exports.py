"""Commands that write exports."""
