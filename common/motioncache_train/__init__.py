"""What the trainings of the shipped models share; not needed to use them."""
