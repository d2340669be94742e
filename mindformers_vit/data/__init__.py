"""Images in, batches out: sources, transforms, mixup, noise, the loader. No MindSpore here."""
