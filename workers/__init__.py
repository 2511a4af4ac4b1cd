"""The worker scripts: one pass each, for cron to repeat."""
