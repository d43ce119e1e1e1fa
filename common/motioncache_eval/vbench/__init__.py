"""What sampling for VBench needs whatever the model: prompts, file names, the output folder, workers, whole videos."""
