"""What the project claims, and how firmly: the ledger, the evidence and the verdicts."""
