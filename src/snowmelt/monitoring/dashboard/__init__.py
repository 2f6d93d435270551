"""A page that shows how runs go on, for one person on one machine. It reads the status schema and changes nothing.

Extra ``dashboard``; never deployed.
"""
