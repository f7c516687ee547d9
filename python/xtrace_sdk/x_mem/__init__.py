"""Reserved for encrypted memory; empty."""
