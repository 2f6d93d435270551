"""What the migration costs, measured on one machine: a module for each thing that is measured."""
