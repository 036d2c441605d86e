"""From verdicts to decisions: pure rules, no database."""
