"""The code that the trainings of the shipped models share; nobody needs it to use the models."""
