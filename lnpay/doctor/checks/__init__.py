"""One module for each subject that the doctor checks."""
