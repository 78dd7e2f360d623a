"""What every folder uses and what uses none of them: errors, files, progress, signals, devices, options."""
