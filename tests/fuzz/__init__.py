"""Every endpoint under bad input: drawn, sent, judged. Results: docs/security-fuzz.md."""
