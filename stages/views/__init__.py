"""The pages of stages: what decides where a customer is, what a change would do, and how the nights went."""
