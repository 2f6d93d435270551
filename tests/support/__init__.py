"""What tests have in common, a module for each subject; nothing here is a test."""
