"""From an option file to a trained or tested model: options, their validation, and the pipelines."""
