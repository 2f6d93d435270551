"""Prove on an account of one's own what Snowmelt relies on: the contract, its checks, and two tables that are moved."""
