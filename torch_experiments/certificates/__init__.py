"""What a trained network is trapped on, for how long, and under which optimizer: the parts of a certificate."""
