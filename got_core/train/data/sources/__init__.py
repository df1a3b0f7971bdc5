"""Where training reads what it learns from: raw files, tars of samples, stored latents."""
