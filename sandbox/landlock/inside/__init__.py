"""What runs on the other side of the fork server: stdlib only."""
